package subscriber

import (
	"path"
	"time"

	"github.com/fastsync/fastsync"
)

// source is one reason why an item has to be shipped: an event of the stream,
// or, with an empty id, the sweep.
type source struct {
	id, ref string
	at      time.Time
}

// item is a change and everybody who waits for it.
type item struct {
	change  fastsync.Change
	sources []source
	// since is when the item was first wanted, due when it may be tried.
	since, due time.Time
	tries      int
	cut        bool      // a run of it ended early
	late       bool      // delivered where a run that broke may still put files
	held       bool      // a deletion past the brake: it waits for an operator
	restless   time.Time // when its file changed first during a run; zero for not
	bulk       bool      // it belongs to the bulk lane
	crossed    bool      // it is only wanted since live shipped it where a bulk batch ran
	after      []*closing
}

// key is the change by which the item is known when nobody looks at how often
// an operator was asked.
func (it *item) key() fastsync.Change {
	return fastsync.Change{Path: it.change.Path, Scope: it.change.Scope}
}

// batcher deduplicates items and forms batches that touch no path of a
// running one. It has no clock and no goroutine: the subscriber's loop owns it.
type batcher struct {
	waiting map[fastsync.Change]*item
	order   []*item // oldest first
	// busy counts the running paths, above each of their ancestors.
	busy, above map[string]int
	// free tells whether the other lane leaves a path alone; nil for yes.
	free func(p string) bool
	// passed are paths whose turn came while the other lane had them.
	passed map[string]bool
	// dir is for how many entries of a batch a listing or a tree counts.
	dir int
}

func newBatcher() *batcher {
	return &batcher{waiting: map[fastsync.Change]*item{}, busy: map[string]int{}, above: map[string]int{}, passed: map[string]bool{}, dir: 1}
}

func (b *batcher) len() int { return len(b.waiting) }

// add merges it into the waiting item for the same change, if there is one.
func (b *batcher) add(it *item) {
	if old := b.waiting[it.change]; old != nil {
		old.sources = append(old.sources, it.sources...)
		old.cut = old.cut || it.cut
		if it.due.Before(old.due) {
			old.due = it.due
		}
		old.held = old.held && it.held
		old.crossed = old.crossed && it.crossed
		old.after = append(old.after, it.after...)
		if old.restless.IsZero() || !it.restless.IsZero() && it.restless.Before(old.restless) {
			old.restless = it.restless
		}
		return
	}
	b.waiting[it.change] = it
	b.order = append(b.order, it)
}

// take returns items for up to most entries that are due and clear of running ones, and
// when the next one is due if none was. What lies below a directory that waits
// for running paths waits with it, or new files would hold it up for good.
func (b *batcher) take(now time.Time, most int) (batch []*item, next time.Time) {
	rest := b.order[:0]
	blocked := map[string]bool{}
	entries := 0
	for i, it := range b.order {
		if entries >= most {
			rest = append(rest, b.order[i:]...)
			break
		}
		switch {
		case it.due.After(now):
			if next.IsZero() || it.due.Before(next) {
				next = it.due
			}
		case b.free != nil && !b.free(it.change.Path):
			b.passed[it.change.Path] = true
		case !b.clear(it.change.Path) || below(it.change.Path, blocked):
			blocked[it.change.Path] = true
		default:
			batch = append(batch, it)
			if entries++; it.change.Scope != fastsync.Entry {
				entries += b.dir - 1
			}
			delete(b.waiting, it.change)
			delete(b.passed, it.change.Path)
			continue
		}
		rest = append(rest, it)
	}
	clear(b.order[len(rest):])
	b.order = rest
	for _, it := range batch {
		b.mark(it.change.Path, 1)
	}
	return batch, next
}

// below tells whether a directory above p is among dirs.
func below(p string, dirs map[string]bool) bool {
	for dir := p; len(dirs) > 0 && dir != fastsync.Root; {
		if dir = path.Dir(dir); dirs[dir] {
			return true
		}
	}
	return false
}

// clear tells whether no running path is p, below p or above it.
func (b *batcher) clear(p string) bool {
	if b.busy[p] > 0 || b.above[p] > 0 {
		return false
	}
	for dir := p; dir != fastsync.Root; {
		if dir = path.Dir(dir); b.busy[dir] > 0 {
			return false
		}
	}
	return true
}

// done makes the paths of a batch free again.
func (b *batcher) done(batch []*item) {
	for _, it := range batch {
		b.mark(it.change.Path, -1)
	}
}

func (b *batcher) mark(p string, by int) {
	count(b.busy, p, by)
	for dir := p; dir != fastsync.Root; {
		dir = path.Dir(dir)
		count(b.above, dir, by)
	}
}

func count(m map[string]int, key string, by int) {
	if m[key] += by; m[key] == 0 {
		delete(m, key)
	}
}
