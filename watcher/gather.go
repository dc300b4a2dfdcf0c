package watcher

import (
	"context"
	"os"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

// waiting is an event whose file may still be open.
type waiting struct {
	event fastsync.Event
	due   time.Time
	wait  time.Duration
	since time.Time
}

// maxWaiting bounds what is held while Redis is away: beyond it the events
// become one catch-up.
const maxWaiting = 100_000

// gatherer publishes each path once its writer has closed it. Its run method
// owns the fields.
type gatherer struct {
	w       *Watcher
	waiting map[fastsync.Change]*waiting
	oldest  time.Time // of what is being published
	busy    bool
}

func (w *Watcher) gather(ctx context.Context) error {
	g := &gatherer{w: w, waiting: map[fastsync.Change]*waiting{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := make(chan struct{}, 1)
	var lostSince time.Time
	for {
		if !g.busy {
			if ready := g.ready(time.Now()); len(ready) > 0 {
				g.busy = true
				go func() { _ = w.cfg.Publisher.Publish(ctx, ready...); done <- struct{}{} }()
			}
		}
		g.mark(time.Now())
		timer.Reset(g.next(time.Now()))
		select {
		case <-ctx.Done():
			if g.busy {
				<-done
			}
			return nil
		case e := <-w.found:
			g.take(e, time.Now())
		case <-done:
			g.busy = false
			if !lostSince.IsZero() {
				w.lost(lostSince)
				lostSince = time.Time{}
			}
		case <-timer.C:
		}
		if len(g.waiting) > maxWaiting {
			lostSince = g.since(time.Now()).Add(-2 * time.Second)
			clear(g.waiting)
		}
	}
}

func (g *gatherer) take(e fastsync.Event, now time.Time) {
	if old := g.waiting[e.Change]; old != nil {
		old.event.At = e.At
		if old.wait >= g.w.cfg.Quiet {
			old.due = now.Add(g.w.cfg.Quiet) // the kernel cannot say: every write starts the quiet time again
		} else {
			old.due, old.wait = now, 0
		}
		return
	}
	g.waiting[e.Change] = &waiting{event: e, due: now, since: now}
}

// ready takes out what may be published. One wake-up looks at a few thousand
// at the most, so that the tree never waits long for its turn.
func (g *gatherer) ready(now time.Time) []fastsync.Event {
	var events []fastsync.Event
	g.oldest = time.Time{}
	for change, it := range g.waiting {
		if it.due.After(now) {
			continue
		}
		if change.Scope == fastsync.Entry && !g.finished(it, now) {
			continue
		}
		events = append(events, it.event)
		if g.oldest.IsZero() || it.since.Before(g.oldest) {
			g.oldest = it.since
		}
		delete(g.waiting, change)
		if len(events) == 5000 {
			break
		}
	}
	return events
}

// finished tells whether nobody writes the file any more, else when to look again.
func (g *gatherer) finished(it *waiting, now time.Time) bool {
	full := g.w.full(it.event.Path)
	info, err := os.Lstat(full)
	if err != nil || !info.Mode().IsRegular() {
		return true
	}
	state, _ := lease.Probe(full) // an error is an unknown state
	switch state {
	case lease.Open:
		it.wait = min(max(2*it.wait, time.Millisecond), time.Second)
	case lease.Unknown:
		if it.wait >= g.w.cfg.Quiet {
			return true
		}
		it.wait = g.w.cfg.Quiet
	default:
		return true
	}
	it.due = now.Add(it.wait)
	return false
}

func (g *gatherer) next(now time.Time) time.Duration {
	if g.busy {
		return time.Second
	}
	next := now.Add(time.Second)
	for _, it := range g.waiting {
		if it.due.Before(next) {
			next = it.due
		}
	}
	return max(0, next.Sub(now))
}

func (g *gatherer) since(now time.Time) time.Time {
	since := now
	if g.busy && g.oldest.Before(since) {
		since = g.oldest
	}
	for _, it := range g.waiting {
		if it.since.Before(since) {
			since = it.since
		}
	}
	return since
}

// mark moves the checkpoint: a little into the past, for what the kernel has
// told but nobody has read yet.
func (g *gatherer) mark(now time.Time) {
	if len(g.w.found) == 0 {
		g.w.checkpoint.Store(g.since(now).Add(-2 * time.Second).UnixNano())
	}
}
