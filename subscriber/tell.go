package subscriber

import (
	"context"
	"errors"
	"time"

	"github.com/fastsync/fastsync"
)

// soon is how long a changed state waits for more changes before it is written.
const soon = 250 * time.Millisecond

// tell writes the state when it changed, and as a heartbeat.
func (l *loop) tell(ctx context.Context, now time.Time) error {
	if now.Before(l.nextBeat()) {
		return nil
	}
	st := &l.state
	st.Heartbeat, st.Waiting, st.Failed = now, l.live.len()+l.bulk.len(), len(l.retry)
	st.NextTry = l.nextTry()
	st.OldestAt, st.Held = time.Time{}, nil
	for _, on := range []*lane{l.live, l.bulk} {
		if len(on.order) > 0 && (st.OldestAt.IsZero() || on.order[0].since.Before(st.OldestAt)) {
			st.OldestAt = on.order[0].since
		}
	}
	st.HeldCount = len(l.held)
	for change := range l.held {
		if len(st.Held) < maxNames {
			st.Held = append(st.Held, change.Path)
		}
	}
	st.Sweep.Repaired = max(st.Sweep.Repaired, len(l.sweep.settledRepairs))
	st.Health = l.health()
	l.beat, l.dirty = now, false
	err := l.queue.save(ctx, *st)
	if errors.Is(err, ErrServed) {
		return err
	}
	if err != nil {
		if ctx.Err() == nil {
			l.log.Debug().Err(err).Msg("could not write the state")
		}
		l.dirty = len(l.unsaved) > 0
		return nil
	}
	for _, saved := range l.unsaved {
		close(saved)
	}
	l.unsaved = nil
	return nil
}

// nextBeat is when the state is written next: soon after a change, and as a
// heartbeat without one.
func (l *loop) nextBeat() time.Time {
	switch {
	case l.queue.lapsed():
		return l.beat.Add(time.Second)
	case l.dirty:
		return l.beat.Add(soon)
	}
	return fastsync.NextBeat(l.beat)
}

// nextTry is when the target is tried again; zero while runs succeed.
func (l *loop) nextTry() time.Time {
	if l.live.failures == 0 {
		return l.bulk.notUntil
	}
	return earlier(l.live.notUntil, l.bulk.notUntil)
}

func (l *loop) health() string {
	switch st := l.state; {
	case l.live.failures+l.bulk.failures > 0:
		return "failing"
	case st.Gap != "" || st.SweepFault != "" || st.Sweep.Left > 0 || len(l.retry) > 0 || len(l.held) > 0:
		return "degraded"
	case st.Sweep.Running:
		return "sweeping"
	}
	return "ok"
}
