package subscriber

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

// maxResumed is how many waiting items with a cut run are looked at one by one.
const maxResumed = 100

// leave notes where a cut run may have left the beginning of a file that was
// shipped since, or is gone.
func (t *times) leave(change fastsync.Change) {
	t.cut[change] = struct{}{}
	t.cut = bounded(t.cut)
}

// takeCut gives what may be tidied now: not where a waiting item would go on
// from what its cut run left.
func (l *loop) takeCut() []fastsync.Change {
	if len(l.times.cut) == 0 {
		return nil
	}
	resumed := l.resumed()
	if len(resumed) > maxResumed {
		return nil
	}
	var free []fastsync.Change
	for change := range l.times.cut {
		if !meets(change, resumed) {
			free = append(free, change)
			delete(l.times.cut, change)
		}
	}
	return free
}

// resumed are the waiting changes that would go on from what a cut run left.
func (l *loop) resumed() (changes []fastsync.Change) {
	for _, on := range []*lane{l.live, l.bulk} {
		for change, it := range on.waiting {
			if it.cut {
				changes = append(changes, change)
			}
		}
	}
	return changes
}

// tidyFor is how long the end may take to remove what cut batches left at the
// target.
const tidyFor = 1500 * time.Millisecond

// tidy removes it: nobody knows when, and with which files, fastsync runs again.
func (l *loop) tidy(ctx context.Context) {
	for _, change := range l.resumed() {
		l.times.leave(change)
	}
	if len(l.times.cut) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tidyFor)
	defer cancel()
	if err := l.cfg.Syncer.Tidy(ctx, slices.Collect(maps.Keys(l.times.cut))); err != nil {
		l.log.Warn().Err(err).Msg("could not remove parts of files at the target; the next sweep does")
	}
}

// meets tells whether one of others may have left parts of files where change
// would look for them.
func meets(change fastsync.Change, others []fastsync.Change) bool {
	for _, other := range others {
		a, b := place(change), place(other)
		if a == b || change.Scope == fastsync.Tree && within(b, a) || other.Scope == fastsync.Tree && within(a, b) {
			return true
		}
	}
	return false
}

// place is the directory in which a change's files lie, for a tree the topmost.
func place(change fastsync.Change) string {
	if change.Scope == fastsync.Entry {
		return path.Dir(change.Path)
	}
	return change.Path
}

func within(p, dir string) bool {
	return dir == fastsync.Root || strings.HasPrefix(p, dir+"/")
}

// leftover notes the parts that a sweep found. While a run is under way they
// may be its own.
func (l *loop) leftover(change fastsync.Change) {
	if l.running() == 0 && !l.state.Sweep.DryRun {
		l.times.leave(fastsync.Change{Path: path.Dir(change.Path), Scope: fastsync.Listing})
	}
}
