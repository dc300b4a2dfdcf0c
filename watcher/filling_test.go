package watcher

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// A burst into a new directory is one event, not one for each file.
func TestAYoungDirectoryIsListed(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		born  string
		age   time.Duration
		files int
		want  fastsync.Scope
	}{
		{"d", 0, many, fastsync.Listing},
		{"", 0, many, fastsync.Listing}, // one above it is young
		{"d", 0, many - 1, fastsync.Entry},
		{"d", young + time.Second, many, fastsync.Entry}, // it may hold a million
		{"e", 0, many, fastsync.Entry},
	} {
		g := still(t, newFake())
		dir := "d"
		if tt.born == "" {
			dir, tt.born = "d/sub", "d"
		}
		g.born(tt.born, now.Add(-tt.age))
		for i := range tt.files {
			g.putSince(fmt.Sprintf("%s/%d", dir, i), fastsync.Entry, now.Add(time.Duration(i)-time.Hour))
		}
		g.putSince("other", fastsync.Entry, now)
		g.fold(now)
		want := tt.files + 1
		if tt.want == fastsync.Listing {
			want = 2
			if r := g.ready[dir]; r.Scope != fastsync.Listing || !r.since.Equal(now.Add(-time.Hour)) {
				t.Errorf("%+v: %+v, want its listing since the first of its files", tt, r)
			}
		}
		if len(g.ready) != want || g.ready["other"].Scope != fastsync.Entry {
			t.Errorf("%+v: %d events, want %d", tt, len(g.ready), want)
		}
	}
}

// The listing of a directory says nothing of what has to go from a new one in it.
func TestWhatIsListedAnewIsNotFolded(t *testing.T) {
	g := still(t, newFake())
	now := time.Now()
	g.born("d", now)
	g.w.blind.add("d")
	for i := range many {
		g.putMade(fmt.Sprintf("d/%d", i), g.good)
	}
	g.fold(now)
	if len(g.ready) != many {
		t.Errorf("%d of %d directories are left", len(g.ready), many)
	}
}

func TestYoungDirectoriesAreBounded(t *testing.T) {
	g := still(t, newFake())
	now := time.Now()
	for i := range mostYoung + 10 {
		g.born(fmt.Sprint(i), now)
	}
	if len(g.young) != mostYoung {
		t.Errorf("%d are remembered, want %d", len(g.young), mostYoung)
	}
	g.fold(now.Add(time.Minute))
	if len(g.young) != 0 {
		t.Errorf("%d are remembered though they are old", len(g.young))
	}
}

// The first events go at once, what follows a burst gathers.
func TestABurstGathers(t *testing.T) {
	f := newFake()
	g := still(t, f)
	g.born("d", time.Now())
	fill := func(n int) {
		for i := range n {
			g.put(fmt.Sprintf("d/%d", i), fastsync.Entry)
		}
	}
	fly := func() {
		g.flushAt = time.Time{}
		g.flush(t.Context())
		<-g.published
		g.flying = false
	}
	fill(1)
	if wait := time.Until(g.flushAt); wait > burst {
		t.Errorf("the first event waits %v", wait)
	}
	fly()
	fill(many)
	fly()
	if n := len(f.events); n != 2 || f.events[1].Scope != fastsync.Listing {
		t.Errorf("%d events, want an entry and a listing: %v", n, f.events)
	}
	g.breathe = time.Now().Add(time.Hour) // which it has set to a little later than now
	if fill(1); time.Until(g.flushAt) < time.Minute {
		t.Error("what follows a burst goes at once")
	}
}

// busy is a Publisher that takes events only while nobody holds it.
type busy struct {
	*fake
	held sync.RWMutex
}

func (b *busy) Publish(ctx context.Context, events ...fastsync.Event) error {
	b.held.RLock()
	defer b.held.RUnlock()
	return b.fake.Publish(ctx, events...)
}

// Each backend tells which directories are young: what gathers of one while the
// publisher is busy becomes its listing.
func TestBurstsIntoNewDirectories(t *testing.T) {
	eachBackend(t, func(t *testing.T, by func(*Watcher)) {
		b := &busy{fake: newFake()}
		r := start(t, t.TempDir(), func(w *Watcher) { by(w); w.cfg.Publisher = b })
		r.fake = b.fake
		dir := 0
		eventually(t, "a listing", func() bool {
			dir++
			name := fmt.Sprint(dir)
			r.must(os.Mkdir(r.path(name), 0o700))
			r.wait(t, name, func(events []fastsync.Event) bool { return count(events, name, "") > 0 })
			b.held.Lock()
			for i := range 10 * many {
				r.write(fmt.Sprintf("%s/%d", name, i))
			}
			b.held.Unlock()
			r.settle()
			r.fake.mu.Lock()
			defer r.fake.mu.Unlock()
			return count(r.events, name, fastsync.Listing) > 0
		})
	})
}
