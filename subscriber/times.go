package subscriber

import (
	"context"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// quiet is how long no batch may have run before directory times are set.
	quiet = 2 * time.Second
	// maxTouched is how many changes are remembered one by one.
	maxTouched = 10_000
)

// times remembers where batches left the times of directories behind: each file
// that lands in a directory changes its time, so they are set when the target
// is quiet.
type times struct {
	touched map[fastsync.Change]struct{}
	last    time.Time // end of the last batch
	running bool
	done    chan struct{}
	cancel  context.CancelFunc
}

func newTimes() times {
	return times{touched: map[fastsync.Change]struct{}{}, done: make(chan struct{}), cancel: func() {}}
}

func (t *times) stop() { t.cancel() }

// touch notes a batch's changes; which directories they mean is up to Settle.
func (t *times) touch(batch []*item, now time.Time) {
	t.last = now
	for _, it := range batch {
		t.touched[it.key()] = struct{}{}
	}
	if len(t.touched) > maxTouched {
		t.touched = map[fastsync.Change]struct{}{{Path: fastsync.Root, Scope: fastsync.Tree}: {}}
	}
}

// settleTimes starts to set directory times when the target is quiet, beside
// the loop and any batch that comes: a batch touches its directories anew. It
// returns when to look again. It is done once: a time that cannot be set, as by
// a user who does not own the directory, harms nobody.
func (l *loop) settleTimes(ctx context.Context, now time.Time) time.Time {
	t := &l.times
	if t.running || l.running > 0 || len(t.touched) == 0 || l.sweep.comparing {
		return time.Time{}
	}
	if due := t.last.Add(quiet); due.After(now) {
		return due
	}
	changes := make([]fastsync.Change, 0, len(t.touched))
	for c := range t.touched {
		changes = append(changes, c)
	}
	clear(t.touched)
	ctx, cancel := context.WithCancel(ctx)
	t.running, t.cancel = true, cancel
	go func() {
		if err := l.cfg.Syncer.Settle(ctx, changes); err != nil && ctx.Err() == nil {
			l.log.Debug().Err(err).Msg("could not set the times of directories")
		}
		cancel()
		t.done <- struct{}{}
	}()
	return time.Time{}
}
