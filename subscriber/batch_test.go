package subscriber

import (
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func at(p string) *item { return &item{change: fastsync.Change{Path: p, Scope: fastsync.Entry}} }

func taken(b *batcher) []string {
	batch, _ := b.take(time.Unix(1, 0), 100)
	var names []string
	for _, it := range batch {
		names = append(names, it.change.Path)
	}
	return names
}

func TestBatchDeduplicatesAndKeepsEveryEvent(t *testing.T) {
	b := newBatcher()
	for _, id := range []string{"1-0", "2-0"} {
		it := at("a")
		it.sources = []source{{id: id}}
		b.add(it)
	}
	batch, _ := b.take(time.Unix(1, 0), 100)
	if len(batch) != 1 || len(batch[0].sources) != 2 {
		t.Fatalf("two events for one path gave %d items, want 1 with both events", len(batch))
	}
}

func TestBatchNeverTouchesAPathOfARunningOne(t *testing.T) {
	for _, tt := range []struct {
		running, waiting string
		free             bool
	}{
		{"a/b", "a/b", false}, {"a", "a/b/c", false}, {"a/b/c", "a", false},
		{".", "a", false}, {"a", ".", false}, {"a/b", "a/c", true}, {"a", "ab", true},
	} {
		b := newBatcher()
		b.add(at(tt.running))
		running, _ := b.take(time.Unix(1, 0), 100)
		b.add(at(tt.waiting))
		if got := len(taken(b)) == 1; got != tt.free {
			t.Errorf("%q while %q runs: taken %v, want %v", tt.waiting, tt.running, got, tt.free)
		}
		b.done(running)
		if !tt.free && len(taken(b)) != 1 {
			t.Errorf("%q was not free after %q had ended", tt.waiting, tt.running)
		}
	}
}

func TestBatchWaitsForWhatIsNotDue(t *testing.T) {
	b := newBatcher()
	it := at("a")
	it.due = time.Unix(5, 0)
	b.add(it)
	if batch, next := b.take(time.Unix(1, 0), 100); len(batch) != 0 || !next.Equal(it.due) {
		t.Fatalf("took %d items, next %v; want none until %v", len(batch), next, it.due)
	}
	if batch, _ := b.take(time.Unix(5, 0), 100); len(batch) != 1 {
		t.Fatal("an item that is due was not taken")
	}
}

// A directory whose files keep coming gets its turn when those that run are done.
func TestNewFilesDoNotHoldTheirDirectoryUp(t *testing.T) {
	b, now := newBatcher(), time.Now()
	add := func(p string, scope fastsync.Scope) {
		b.add(&item{change: fastsync.Change{Path: p, Scope: scope}, since: now, due: now})
	}
	add("d/1", fastsync.Entry)
	first, _ := b.take(now, 10)
	add("d", fastsync.Tree)
	add("d/2", fastsync.Entry)
	add("e/1", fastsync.Entry)
	if second, _ := b.take(now, 10); len(second) != 1 || second[0].change.Path != "e/1" {
		t.Errorf("took %v, want e/1 alone", second)
	}
	b.done(first)
	if third, _ := b.take(now, 10); len(third) != 2 || third[0].change.Path != "d" {
		t.Errorf("took %v, want d and d/2", third)
	}
}

// A new event does not make a file that never rests look rested.
func TestRestlessnessOutlivesAMerge(t *testing.T) {
	now := time.Unix(1, 0)
	early, late := now, now.Add(time.Second)
	for _, c := range []struct{ waiting, added, want time.Time }{
		{early, time.Time{}, early}, {time.Time{}, early, early}, {early, late, early}, {late, early, early}, {},
	} {
		b, old, it := newBatcher(), at("a"), at("a")
		old.restless, it.restless = c.waiting, c.added
		b.add(old)
		b.add(it)
		if !old.restless.Equal(c.want) {
			t.Errorf("%v merged into %v gives %v, want %v", c.added, c.waiting, old.restless, c.want)
		}
	}
}

// A directory is the work of many entries: the rest is for the run beside it.
func TestADirectoryCountsForManyEntries(t *testing.T) {
	live, bulk := newLanes()
	for _, on := range []*lane{live, bulk} {
		for i := range 5 {
			on.add(&item{change: fastsync.Change{Path: string(rune('a' + i)), Scope: fastsync.Listing}})
		}
		on.add(at("f"))
	}
	if n := len(taken(live.batcher)); n != 2 {
		t.Errorf("a live batch of 100 entries took %d directories, want 2", n)
	}
	if n := len(taken(live.batcher)); n != 2 {
		t.Errorf("the next took %d, want 2", n)
	}
	if n := len(taken(live.batcher)); n != 2 {
		t.Errorf("the last took %d, want a directory and a file", n)
	}
	bulk.free = nil
	if n := len(taken(bulk.batcher)); n != 6 {
		t.Errorf("a bulk batch took %d, want all 6: it alone runs there", n)
	}
}
