package subscriber

import (
	"context"
	"errors"
	"fmt"
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
	done    chan settling
	cancel  context.CancelFunc

	failures int       // in a row
	notUntil time.Time // after a failure
}

// settling is what one attempt failed to settle, and why; without an error nothing.
type settling struct {
	touched, cut []fastsync.Change
	err          error
}

func newTimes() times {
	return times{touched: map[fastsync.Change]struct{}{}, cut: map[fastsync.Change]struct{}{}, done: make(chan settling), cancel: func() {}}
}

func (t *times) stop() { t.cancel() }

// touch notes a batch's changes; which directories they mean is up to Settle.
func (t *times) touch(batch []*item, now time.Time) {
	t.last, t.failures, t.notUntil = now, 0, time.Time{} // the target takes files
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
// returns when to look again. A time that the target refuses, as of a directory
// that another user owns, harms nobody and is not tried again.
func (l *loop) settleTimes(ctx context.Context, now time.Time) time.Time {
	t := &l.times
	if t.running || l.running() > 0 || len(t.touched)+len(t.cut) == 0 || l.sweep.comparing {
		return time.Time{}
	}
	for _, due := range []time.Time{t.last.Add(quiet), t.notUntil} {
		if due.After(now) {
			return due
		}
	}
	cut := l.takeCut()
	if len(t.touched)+len(cut) == 0 {
		return time.Time{}
	}
	touched := slices.Collect(maps.Keys(t.touched))
	clear(t.touched)
	ctx, cancel := context.WithCancel(ctx)
	t.running, t.cancel = true, cancel
	go func() {
		defer cancel()
		t.done <- l.settleNow(ctx, touched, cut)
	}()
	return time.Time{}
}

// settleNow returns what is to be tried again. That parts of files cannot be removed,
// as from a daemon that refuses to delete, keeps no directory from its time.
func (l *loop) settleNow(ctx context.Context, touched, cut []fastsync.Change) (rest settling) {
	if len(cut) > 0 {
		if err := l.cfg.Syncer.Tidy(ctx, cut); err != nil {
			rest.cut, rest.err = cut, fmt.Errorf("could not remove parts of files: %w", err)
		} else {
			touched = append(touched, cut...) // what goes from a directory changes its time
		}
	}
	if len(touched) == 0 {
		return rest
	}
	if err := l.cfg.Syncer.Settle(ctx, touched); err != nil {
		rest.touched = touched
		rest.err = errors.Join(rest.err, fmt.Errorf("could not set the times of directories: %w", err))
	}
	return rest
}

// settledTimes takes back what an attempt could not settle.
func (l *loop) settledTimes(s settling, now time.Time) {
	t := &l.times
	t.running = false
	if s.err == nil {
		t.failures = 0
		return
	}
	for _, change := range s.touched {
		t.later(change)
	}
	for _, change := range s.cut {
		t.leave(change)
	}
	t.failures++
	t.notUntil = now.Add(backoffFor(fastsync.ClassOf(s.err), t.failures))
	l.log.Debug().Err(s.err).Time("again", t.notUntil).Msg("trying again")
}
