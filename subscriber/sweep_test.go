package subscriber

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func TestANewTargetIsSweptAlsoWithSweepsOff(t *testing.T) {
	x := &target{drift: []string{"old"}}
	inBubble(t, never, x, func(l *loop) {
		after(time.Hour)
		got := x.look()
		if len(got.sweeps) != 1 || len(got.runs) != 1 || got.runs[0].paths[0] != "old" {
			t.Errorf("sweeps at %v, runs %v; want one sweep that repairs", got.sweeps, got.runs)
		}
		if s := got.state.Sweep; s.Drift != 1 || s.Repaired != 1 || s.Left != 0 || s.Finished.IsZero() {
			t.Errorf("the sweep ended as %+v", s)
		}
	})
}

func TestSweepsComeWithJitter(t *testing.T) {
	x := swept()
	inBubble(t, Config{SweepEvery: time.Hour}, x, func(l *loop) {
		after(10*time.Hour + time.Minute)
		got := x.look()
		if n := len(got.sweeps); n < 10 || n > 11 {
			t.Errorf("%d sweeps in 10 h, want 10 or 11", n)
		}
		for i, at := range got.sweeps {
			last := time.Duration(0)
			if i > 0 {
				last = got.sweeps[i-1]
			}
			if gap := at - last; gap < 54*time.Minute || gap > time.Hour+2*fastsync.Beat {
				t.Errorf("sweep %d came after %v, want 54 to 60 min", i, gap)
			}
		}
	})
}

func TestAGapIsShownUntilASweepFoundEquality(t *testing.T) {
	x := swept()
	x.cmpErr = errors.New("no way through")
	inBubble(t, never, x, func(l *loop) {
		l.gaps <- gap{"redis lost its data", make(chan struct{})}
		after(time.Minute)
		got := x.look()
		if got.state.Gap == "" || got.state.Health != "degraded" || got.state.SweepFault == "" {
			t.Errorf("gap %q, health %s, fault %q; want all of it shown", got.state.Gap, got.state.Health, got.state.SweepFault)
		}
		x.order(func() { x.cmpErr, x.drift = nil, []string{"missed"} })
		after(time.Minute)
		got = x.look()
		if got.state.Gap != "" || got.state.Health != "ok" || got.runs[0].paths[0] != "missed" {
			t.Errorf("gap %q, health %s, runs %v; want it closed", got.state.Gap, got.state.Health, got.runs)
		}
	})
}

func TestASweepThatCannotCompareDelaysNoEvent(t *testing.T) {
	x := &target{cmpErr: errors.New("no way through")}
	inBubble(t, never, x, func(l *loop) {
		after(10 * time.Minute)
		give(l, event("1-0", "a"))
		got := x.look()
		if len(got.runs) != 1 || len(got.acked) != 1 {
			t.Errorf("runs %v, want the event shipped at once", got.runs)
		}
	})
}

func TestADryRunIsNoSweep(t *testing.T) {
	x := swept()
	x.drift = []string{"a"}
	inBubble(t, never, x, func(l *loop) {
		first := x.begun
		after(time.Minute)
		l.orders <- "dry-run 7"
		after(time.Minute)
		got := x.look()
		s := got.state.Sweep
		if len(got.runs) != 0 || s.Drift != 1 || s.Left != 1 || s.ID != "7" || !s.Finished.Equal(first) {
			t.Errorf("runs %v, sweep %+v; want nothing shipped, one path left", got.runs, s)
		}
	})
}

func TestWhatCannotBeRepairedIsLeft(t *testing.T) {
	x := swept()
	x.drift, x.refuse = []string{"a", "b"}, map[string]string{"b": "refused"}
	inBubble(t, never, x, func(l *loop) {
		l.orders <- "sweep 8"
		after(time.Minute)
		got := x.look()
		if s := got.state.Sweep; s.Drift != 2 || s.Repaired != 1 || s.Left != 1 || got.state.Health != "degraded" {
			t.Errorf("sweep %+v, health %s; want one left", s, got.state.Health)
		}
		x.order(func() { x.refuse = nil })
		after(time.Hour)
		got = x.look()
		if s := got.state.Sweep; len(got.sweeps) != 2 || s.Left != 0 || got.state.Health != "ok" {
			t.Errorf("%d sweeps, %+v, %s; want a second sweep that proves what was healed", len(got.sweeps), s, got.state.Health)
		}
	})
}

// A batch that was on its way when an event was lost may have been done with the
// path already: the sweep that the loss asks for repairs it.
func TestABatchFromBeforeASweepHidesNoDrift(t *testing.T) {
	x := swept()
	x.took, x.drift = time.Minute, []string{"a"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(time.Second)
		l.gaps <- gap{"events were lost", make(chan struct{})}
		after(time.Hour)
		got := x.look()
		if !slices.Equal(got.paths(fastsync.Live), []string{"a"}) || !slices.Equal(got.paths(fastsync.Bulk), []string{"a"}) || got.state.Gap != "" {
			t.Errorf("runs %v, gap %q; want it shipped again before the gap is closed", got.runs, got.state.Gap)
		}
	})
}

// A directory's time is no drift, but nobody else would set it: the batch that left
// it so may have been another process's, and its event may be lost.
func TestASweepHasTimesOfDirectoriesSet(t *testing.T) {
	x := swept()
	x.drift, x.late = []string{"d"}, "d"
	inBubble(t, never, x, func(l *loop) {
		l.gaps <- gap{"events were lost", make(chan struct{})}
		after(time.Minute)
		got := x.look()
		if len(got.runs) != 0 || got.state.Sweep.Drift != 0 || got.state.Gap != "" || len(got.settled) != 1 || got.settled[0][0].Path != "d" {
			t.Errorf("runs %v, sweep %+v, settled %v; want the time set, and nothing else", got.runs, got.state.Sweep, got.settled)
		}
	})
}

// What has an event of its own while repaired paths are compared again is not left.
func TestARepairedPathThatChangesAgainIsNotLeft(t *testing.T) {
	x := swept()
	x.took, x.drift, x.leaves = time.Minute, []string{"a"}, []string{"a"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(time.Second)
		l.gaps <- gap{"events were lost", make(chan struct{})}
		after(90 * time.Second) // the batch has ended, the repair runs
		give(l, event("2-0", "a"))
		after(45 * time.Second) // the event's batch runs, and the repair is compared
		if s := x.look().state.Sweep; s.Running || s.Drift != 1 || s.Left != 0 {
			t.Errorf("%+v, want nothing left", s)
		}
	})
}
