package subscriber

import (
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// A path that keeps failing costs one run an hour, beside the live lane, stays
// listed with its reason, and ships by itself once it can.
func TestAPathThatKeepsFailingGoesIntoQuarantine(t *testing.T) {
	x := swept()
	x.refuse = map[string]string{"bad": "permission denied"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "bad"))
		after(time.Hour)
		f := x.look().failed["bad"]
		if !f.Quarantined || f.Why != "permission denied" || f.Tries != quarantineAfter {
			t.Fatalf("after an hour: %+v", f)
		}
		before := x.look()
		if before.state.Waiting != 0 {
			t.Errorf("%d wait in the lanes", before.state.Waiting)
		}
		after(10 * time.Hour)
		runs := x.look().runs[len(before.runs):]
		if len(runs) < 9 || len(runs) > 11 {
			t.Errorf("%d runs in 10 hours", len(runs))
		}
		for _, r := range runs {
			if r.lane != fastsync.Bulk {
				t.Errorf("tried on the %s lane", r.lane)
			}
		}
		x.order(func() { x.refuse = nil })
		after(quarantineEvery + time.Minute)
		if got := x.look(); len(got.failed) != 0 || got.state.Health != "ok" {
			t.Errorf("still listed: %v", got.failed)
		}
	})
}

// A change of the path has it tried at once.
func TestAChangeEndsQuarantine(t *testing.T) {
	x := swept()
	x.refuse = map[string]string{"bad": "permission denied"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "bad"))
		after(time.Hour)
		x.order(func() { x.refuse = nil })
		give(l, event("2-0", "bad"))
		after(time.Second)
		if got := x.look(); len(got.failed) != 0 || got.state.Health != "ok" {
			t.Errorf("still listed: %v", got.failed)
		}
	})
}

// All of quarantine is tried at one time, and a restart forgets nothing of it.
func TestQuarantineIsTriedTogether(t *testing.T) {
	x := swept()
	x.failed = map[string]failedPath{}
	for _, p := range []string{"a", "b", "c"} {
		x.failed[p] = failedPath{Why: "permission denied", Scope: fastsync.Entry, Tries: 20, Quarantined: true}
	}
	x.refuseAll = "permission denied"
	inBubble(t, never, x, func(*loop) {
		after(3*quarantineEvery + time.Minute)
		for _, r := range x.look().runs {
			if len(r.paths) != 3 || r.lane != fastsync.Bulk {
				t.Errorf("a run on the %s lane of %v", r.lane, r.paths)
			}
		}
		if n := len(x.look().runs); n != 4 {
			t.Errorf("%d runs, want one at the start and one an hour", n)
		}
		if f := x.look().failed["a"]; !f.Quarantined || f.Tries != 24 {
			t.Errorf("listed as %+v", f)
		}
	})
}
