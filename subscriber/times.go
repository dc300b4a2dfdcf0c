package subscriber

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// quiet is how long no batch may have run before directory times are set.
	quiet = 2 * time.Second
	// maxTouched is how many changes are remembered one by one.
	maxTouched = 10_000
)

// times remembers what batches left behind for a time when the target is quiet:
// the times of directories, which each file that lands there changes, and the
// beginnings of files that nobody ships any more.
type times struct {
	touched map[fastsync.Change]struct{}
	cut     map[fastsync.Change]struct{}
	last    time.Time // end of the last batch
	running bool
	done    chan struct{}
	cancel  context.CancelFunc
}

func newTimes() times {
	return times{touched: map[fastsync.Change]struct{}{}, cut: map[fastsync.Change]struct{}{}, done: make(chan struct{}), cancel: func() {}}
}

func (t *times) stop() { t.cancel() }

// touch notes a batch's changes; which directories they mean is up to Settle.
func (t *times) touch(batch []*item, now time.Time) {
	t.last = now
	for _, it := range batch {
		t.touched[it.key()] = struct{}{}
	}
	t.touched = bounded(t.touched)
}

// later notes a directory whose time a sweep found to differ: the batch that left it
// so may have been of a process that is dead, and its event lost.
func (t *times) later(change fastsync.Change) {
	t.touched[change] = struct{}{}
	t.touched = bounded(t.touched)
}

// bounded makes too many changes one of the whole root.
func bounded(changes map[fastsync.Change]struct{}) map[fastsync.Change]struct{} {
	if len(changes) > maxTouched {
		return map[fastsync.Change]struct{}{{Path: fastsync.Root, Scope: fastsync.Tree}: {}}
	}
	return changes
}

// settleTimes starts to set directory times when the target is quiet, beside
// the loop and any batch that comes: a batch touches its directories anew. It
// returns when to look again. It is done once: a time that cannot be set, as by
// a user who does not own the directory, harms nobody.
func (l *loop) settleTimes(ctx context.Context, now time.Time) time.Time {
	t := &l.times
	if t.running || l.running() > 0 || len(t.touched)+len(t.cut) == 0 || l.sweep.comparing {
		return time.Time{}
	}
	if due := t.last.Add(quiet); due.After(now) {
		return due
	}
	cut := l.takeCut()
	if len(t.touched)+len(cut) == 0 {
		return time.Time{}
	}
	touched := append(slices.Collect(maps.Keys(t.touched)), cut...) // what goes from a directory changes its time
	clear(t.touched)
	ctx, cancel := context.WithCancel(ctx)
	t.running, t.cancel = true, cancel
	go func() {
		if len(cut) > 0 {
			if err := l.cfg.Syncer.Tidy(ctx, cut); err != nil && ctx.Err() == nil {
				l.log.Debug().Err(err).Msg("could not remove parts of files; the next sweep tells of them")
			}
		}
		if err := l.cfg.Syncer.Settle(ctx, touched); err != nil && ctx.Err() == nil {
			l.log.Debug().Err(err).Msg("could not set the times of directories")
		}
		cancel()
		t.done <- struct{}{}
	}()
	return time.Time{}
}
