package subscriber

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// gated is a target whose comparisons of the whole root wait to be let through.
type gated struct {
	*target
	gate  chan struct{}
	finds []fastsync.Difference
}

func newGated(finds ...fastsync.Difference) *gated {
	return &gated{target: swept(), finds: finds}
}

func (g *gated) Compare(ctx context.Context, changes []fastsync.Change, found func(fastsync.Difference)) error {
	if changes != nil {
		return nil
	}
	select {
	case <-g.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, f := range g.finds {
		found(f)
	}
	return nil
}

func (g *gated) pass() {
	g.gate <- struct{}{}
	after(time.Second)
}

func differs(p string, scope fastsync.Scope) fastsync.Difference {
	return fastsync.Difference{Change: fastsync.Change{Path: p, Scope: scope}}
}

// Whoever waits for a sweep need not wait for the next beat as well.
func TestTheEndOfASweepIsToldAtOnce(t *testing.T) {
	x := newGated()
	inBubbleOf(t, never, x.target, x, func(l *loop) {
		for _, order := range []string{"sweep one", "dry-run two"} {
			l.orders <- order
			after(2 * time.Second)
			if !x.look().state.Sweep.Running {
				t.Fatal("no sweep runs")
			}
			x.pass()
			if st := x.look().state; st.Sweep.Running || st.Answers[len(st.Answers)-1].ID != st.Sweep.ID {
				t.Errorf("%s ended, and the state says %+v", order, st.Sweep)
			}
		}
	})
}

func TestADryRunThatWaitsForASweepWritesNothing(t *testing.T) {
	x := newGated(differs("a", fastsync.Entry))
	inBubbleOf(t, never, x.target, x, func(l *loop) {
		l.orders <- "sweep one"
		after(time.Second)
		l.orders <- "dry-run two"
		x.pass()
		wrote := len(x.look().runs)
		x.pass()
		got := x.look()
		if len(got.runs) != wrote || !got.state.Sweep.DryRun {
			t.Errorf("a dry run wrote: %v, %+v", got.runs, got.state.Sweep)
		}
	})
}

// A gap that comes while a dry run waits is swept after it.
func TestADryRunTakesNoGapsPlace(t *testing.T) {
	x := newGated()
	inBubbleOf(t, never, x.target, x, func(l *loop) {
		l.orders <- "sweep zero"
		after(time.Second)
		l.gaps <- gap{"trimmed", make(chan struct{})}
		l.orders <- "dry-run one"
		x.pass()
		if got := x.look(); got.state.Gap == "" {
			t.Error("a sweep that had begun before the gap has closed it")
		}
		x.pass()
		if got := x.look(); got.state.Gap != "" && !got.state.Sweep.Running {
			t.Fatal("the gap is left and nothing sweeps")
		}
		x.pass()
		if got := x.look(); got.state.Gap != "" {
			t.Error("the gap was not swept")
		}
	})
}

// Every operator gets the answer, whatever else wants to sweep.
func TestEachOrderIsAnswered(t *testing.T) {
	x := newGated()
	inBubbleOf(t, never, x.target, x, func(l *loop) {
		l.orders <- "sweep zero"
		l.orders <- "sweep one"
		l.orders <- "dry-run two"
		l.gaps <- gap{"trimmed", make(chan struct{})}
		after(time.Second)
		for range 3 {
			x.pass()
		}
		answered := map[string]bool{}
		for _, s := range x.look().state.Answers {
			answered[fmt.Sprint(s.ID, " ", s.DryRun, " ", s.Running)] = true
		}
		for _, want := range []string{"zero false false", "one false false", "two true false"} {
			if !answered[want] {
				t.Errorf("%s is not among the answers %v", want, answered)
			}
		}
	})
}

// An event for a directory alone does not cover what a sweep finds below it.
func TestAnEntryDoesNotHideATree(t *testing.T) {
	x := newGated(differs("d", fastsync.Tree), differs("e", fastsync.Entry))
	inBubbleOf(t, never, x.target, x, func(l *loop) {
		l.orders <- "sweep one"
		after(time.Second)
		give(l, event("1-0", "d"), event("2-0", "e"))
		after(time.Second)
		x.pass()
		if s := x.look().state.Sweep; s.Drift != 1 || s.Repaired != 1 {
			t.Errorf("%+v, want the tree d repaired; e has its own event", s)
		}
	})
}

// What a dead process left open is swept by the next, also with sweeps off.
func TestWhatTheLastProcessLeftIsSwept(t *testing.T) {
	for name, leave := range map[string]func(s *State){
		"a gap":               func(s *State) { s.Gap = "redis lost its data" },
		"what still differed": func(s *State) { s.Sweep.Left = 3 },
		"a running sweep":     func(s *State) { s.Sweep.Running = true },
	} {
		t.Run(name, func(t *testing.T) {
			x := swept()
			leave(&x.state)
			inBubble(t, never, x, func(*loop) {
				after(time.Minute)
				if got := x.look(); len(got.sweeps) != 1 || got.state.Health != "ok" {
					t.Errorf("swept at %v, health %s", got.sweeps, got.state.Health)
				}
			})
		})
	}
}

// One sweep deletes --max-delete at most; the rest waits for an operator, not
// for the next batch, sweep or start.
func TestASweepHoldsDeletionsPastTheBrake(t *testing.T) {
	x := newGated()
	for i := range 12 {
		x.finds = append(x.finds, fastsync.Difference{Change: fastsync.Change{Path: fmt.Sprint(i), Scope: fastsync.Entry}, Gone: true})
	}
	cfg := Config{SweepEvery: -1, Delete: true, MaxDelete: 5, BatchMax: 3}
	deleted := func() (n int) {
		for _, r := range x.look().runs {
			n += len(r.paths)
		}
		return n
	}
	inBubbleOf(t, cfg, x.target, x, func(l *loop) {
		l.orders <- "sweep one"
		x.pass()
		x.finds = x.finds[5:]
		l.orders <- "sweep two"
		x.pass()
		got := x.look()
		if deleted() != 5 || got.state.HeldCount != 7 || !got.failed["11"].Held {
			t.Errorf("deleted %d, held %d, want 5 and 7", deleted(), got.state.HeldCount)
		}
	})
	inBubbleOf(t, cfg, x.target, x, func(l *loop) {
		after(time.Hour)
		if got := x.look(); deleted() != 5 || got.state.HeldCount != 7 {
			t.Errorf("after a restart: deleted %d, held %d", deleted(), got.state.HeldCount)
		}
		l.orders <- "release"
		after(time.Minute)
		if got := x.look(); deleted() != 12 || got.state.HeldCount != 0 {
			t.Errorf("after the release: deleted %d, held %d", deleted(), got.state.HeldCount)
		}
	})
}

// A path that changed while a sweep looked at it again does not keep the target
// degraded until the next one.
func TestWhatASweepLeftIsLookedAtSoon(t *testing.T) {
	x := swept()
	x.drift, x.leaves = []string{"a"}, []string{"a"}
	inBubble(t, never, x, func(l *loop) {
		l.orders <- "sweep one"
		after(time.Second)
		if got := x.look(); got.state.Sweep.Left != 1 || got.state.Health != "degraded" {
			t.Fatalf("%+v", got.state.Sweep)
		}
		after(2 * pathFirst)
		if got := x.look(); got.state.Health != "ok" || len(got.sweeps) != 2 {
			t.Errorf("swept at %v, health %s", got.sweeps, got.state.Health)
		}
		after(time.Hour)
		if got := x.look(); len(got.sweeps) != 2 {
			t.Errorf("swept at %v with nothing left", got.sweeps)
		}
	})
}

// What a sweep left is swept again once the last of it was shipped, whatever an
// operator looked at in between.
func TestADryRunForgetsNothingThatASweepLeft(t *testing.T) {
	x := swept()
	x.drift, x.refuse = []string{"a", "b"}, map[string]string{"b": "refused"}
	inBubble(t, never, x, func(l *loop) {
		l.orders <- "sweep 8"
		after(time.Minute)
		x.order(func() { x.drift = []string{"b"} })
		l.orders <- "dry-run 9"
		after(time.Minute)
		x.order(func() { x.refuse = nil })
		after(time.Hour)
		got := x.look()
		if s := got.state.Sweep; s.DryRun || s.Left != 0 || got.state.Health != "ok" {
			t.Errorf("%+v, %s; want a sweep that proves what was healed", s, got.state.Health)
		}
	})
}

// More operators than may wait are told so.
func TestAnOrderTooManyIsRefused(t *testing.T) {
	x := newGated()
	inBubbleOf(t, never, x.target, x, func(l *loop) {
		for i := range maxOrders + 2 { // one runs
			l.orders <- fmt.Sprint("sweep ", i)
			after(time.Second)
		}
		answers := x.look().state.Answers
		if len(answers) != 1 || answers[0].ID != fmt.Sprint(maxOrders+1) || answers[0].Err == "" {
			t.Errorf("answered %+v", answers)
		}
		for range maxOrders + 1 {
			x.pass()
		}
	})
}
