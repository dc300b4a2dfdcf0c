package watcher

import (
	"context"
	"time"
)

// tick is how long what is asked for waits for more of its kind.
const tick = 250 * time.Millisecond

// alarm is a timer that is set only while something waits for it.
type alarm struct {
	*time.Timer
	set bool
}

func newAlarm() alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return alarm{Timer: t}
}

// within rings in d, or earlier if that was asked for before.
func (a *alarm) within(d time.Duration) {
	if !a.set {
		a.set = true
		a.Reset(d)
	}
}

// demand asks for a catch-up within a tick, or after the one that runs.
func (l *loop) demand(since time.Time) {
	if l.again == nil || since.Before(*l.again) {
		l.again = &since
	}
}

// arm sets the alarms that something waits for; at rest there are none.
func (l *loop) arm(watching bool) {
	if l.startable() || l.tree.starved() || !l.missed.IsZero() || !l.others.since.IsZero() || l.root == nil && watching {
		l.soon.within(tick)
	}
	if len(l.tree.bare) > 0 {
		l.rewalks.within(l.w.cfg.RewalkEvery)
	}
}

// startable tells whether a catch-up is asked for and can begin. Not while
// directories are without their watches: what changes in them between the
// catch-up and the watch would be lost.
func (l *loop) startable() bool {
	return l.again != nil && !l.catching && len(l.tree.walks) == 0
}

// tick does what is due by time alone.
func (l *loop) tick(ctx context.Context, now time.Time, watching bool) {
	if watching && l.root == nil {
		l.checkRoot()
	}
	if l.tree.starved() {
		l.step()
	}
	// Less than half full, or a while ago: else a walk would end where this one did.
	if !l.missed.IsZero() && (len(l.probing) < l.w.cfg.mostOpen/2 || now.Sub(l.retried) >= l.w.cfg.RewalkEvery) {
		l.w.cfg.Log.Warn().Time("since", l.missed).Msg("too many files were open at once; catching up")
		l.demand(l.missed.Add(-margin))
		l.missed, l.retried = time.Time{}, now
	}
	if !l.others.since.IsZero() && l.rested(now) {
		l.demand(l.others.since.Add(-margin))
		l.others.since = time.Time{}
	}
	if l.startable() && (l.root != nil || !watching) {
		since := *l.again
		l.again, l.catching = nil, true
		l.running.Go(func() {
			err := l.w.CatchUp(ctx, since)
			if err == nil {
				l.caught <- nil
				return
			}
			if ctx.Err() == nil {
				l.w.cfg.Log.Error().Err(err).Msg("catch-up failed and is tried again; see that the root can be read")
			}
			l.caught <- &since
		})
	}
}

// rest follows a catch-up.
func (l *loop) rest(since *time.Time) {
	l.catching = false
	if since != nil {
		l.demand(*since)
	}
}

// rested tells whether the last catch-up ended ten times as long ago as it took:
// writes to files with several names must not keep a core busy with walks.
func (l *loop) rested(now time.Time) bool {
	l.w.mu.Lock()
	last := l.w.status
	l.w.mu.Unlock()
	return now.Sub(last.CatchUpAt) >= 10*last.CatchUpTook
}
