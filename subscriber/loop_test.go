package subscriber

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/fastsync/fastsync"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run is one batch that reached the target.
type run struct {
	at    time.Duration // since the start of the test
	paths []string
}

// target is a Syncer and ledger in memory, with faults to order.
type target struct {
	mu      sync.Mutex // a run is beside the loop
	begun   time.Time
	runs    []run
	sweeps  []time.Duration
	settled [][]fastsync.Change
	took    time.Duration // by one run
	syncErr error
	refuse  map[string]string // path → reason
	drift   []string          // found by the next comparison of the whole root
	cmpErr  error

	acked  []string
	failed map[string]failedPath
	heald  []string
	state  State
}

func (x *target) Sync(_ context.Context, changes []fastsync.Change) (fastsync.Outcome, error) {
	var out fastsync.Outcome
	x.mu.Lock()
	r := run{at: time.Since(x.begun)}
	for _, c := range changes {
		r.paths = append(r.paths, c.Path)
		if why := x.refuse[c.Path]; why != "" {
			out.Failed = append(out.Failed, fastsync.Failure{Change: c, Reason: why})
		}
	}
	x.runs = append(x.runs, r)
	took, err := x.took, x.syncErr
	x.mu.Unlock()
	time.Sleep(took) // fake time
	return out, err
}

func (x *target) Compare(_ context.Context, changes []fastsync.Change, found func(fastsync.Change, bool)) error {
	x.mu.Lock()
	var drift []string
	if changes == nil {
		x.sweeps = append(x.sweeps, time.Since(x.begun))
		drift, x.drift = x.drift, nil
	}
	err := x.cmpErr
	x.mu.Unlock()
	for _, p := range drift {
		found(fastsync.Change{Path: p, Scope: fastsync.Entry}, false)
	}
	return err
}

func (x *target) Settle(_ context.Context, changes []fastsync.Change) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.settled = append(x.settled, changes)
	return nil
}

func (x *target) ack(_ context.Context, ids []string, _ []delivery) error {
	x.acked = append(x.acked, ids...)
	return nil
}

func (x *target) fail(_ context.Context, failed map[string]failedPath) error {
	for p, f := range failed {
		x.failed[p] = f
	}
	return nil
}

func (x *target) healed(_ context.Context, paths []string) error {
	x.heald = append(x.heald, paths...)
	for _, p := range paths {
		delete(x.failed, p)
	}
	return nil
}

func (x *target) save(_ context.Context, s State) error {
	x.state = s
	return nil
}

// inBubble runs a loop on fake time; within acts on it and then looks.
func inBubble(t *testing.T, cfg Config, x *target, within func(l *loop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x.begun, x.failed = time.Now(), map[string]failedPath{}
		cfg.Syncer, cfg.Target, cfg.Log = x, "web1", zerolog.Nop()
		s := New(cfg)
		l := newLoop(s.cfg, x)
		if !x.state.Sweep.Finished.IsZero() {
			x.state.Sweep.Finished = x.begun
		}
		l.state = x.state
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = l.run(ctx); close(ended) }()
		synctest.Wait()
		within(l)
		stop()
		<-ended
	})
}

// swept is a target whose first sweep is behind it.
func swept() *target { return &target{state: State{Sweep: Sweep{Finished: time.Unix(1, 0)}}} }

func event(id, p string) redis.XMessage {
	return redis.XMessage{ID: id, Values: map[string]any{"path": p, "scope": "entry", "origin": "cms", "at": "1"}}
}

func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

var never = Config{SweepEvery: -1}

func TestAnIdleTargetGetsAnEventAtOnce(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		after(time.Minute)
		l.entries <- []redis.XMessage{event("1-0", "a"), event("2-0", "a"), event("3-0", "b")}
		synctest.Wait()
		if len(x.runs) != 1 || x.runs[0].at != time.Minute || !slices.Equal(x.runs[0].paths, []string{"a", "b"}) {
			t.Errorf("runs %v, want one of a and b at once", x.runs)
		}
		if !slices.Equal(x.acked, []string{"1-0", "2-0", "3-0"}) {
			t.Errorf("acknowledged %v, want all three events", x.acked)
		}
	})
}

func TestEventsGatherWhileABatchRunsButNotForLongerThanWaitMax(t *testing.T) {
	x := swept()
	x.took = 10 * time.Second
	inBubble(t, never, x, func(l *loop) {
		l.entries <- []redis.XMessage{event("1-0", "first")}
		after(100 * time.Millisecond)
		l.entries <- []redis.XMessage{event("2-0", "b")}
		after(100 * time.Millisecond)
		l.entries <- []redis.XMessage{event("3-0", "c")}
		after(399 * time.Millisecond)
		if len(x.runs) != 1 {
			t.Errorf("a second run started after %v, before WaitMax", x.runs[1].at)
		}
		after(time.Millisecond)
		if len(x.runs) != 2 || !slices.Equal(x.runs[1].paths, []string{"b", "c"}) || x.runs[1].at != 600*time.Millisecond {
			t.Errorf("runs %v, want b and c together 500 ms after b came", x.runs)
		}
	})
}

func TestAFullBatchDoesNotWait(t *testing.T) {
	x := swept()
	x.took = time.Second
	cfg := never
	cfg.BatchMax = 2
	inBubble(t, cfg, x, func(l *loop) {
		l.entries <- []redis.XMessage{event("1-0", "a")}
		synctest.Wait()
		l.entries <- []redis.XMessage{event("2-0", "b"), event("3-0", "c"), event("4-0", "d")}
		synctest.Wait()
		if len(x.runs) != 2 || len(x.runs[1].paths) != 2 {
			t.Errorf("runs %v, want a second one of two paths at once", x.runs)
		}
	})
}

func TestATargetThatIsDownIsTriedAgainAndNothingIsAcknowledged(t *testing.T) {
	x := swept()
	x.syncErr = &fastsync.RunError{What: "the target is down"}
	inBubble(t, never, x, func(l *loop) {
		l.entries <- []redis.XMessage{event("1-0", "a")}
		after(10 * time.Minute)
		tries := len(x.runs)
		if tries < 15 || tries > 40 {
			t.Errorf("%d tries in 10 min, want one each 30 s at the end", tries)
		}
		if len(x.acked) != 0 || x.state.Health != "failing" || x.state.Why != "the target is down" {
			t.Errorf("acknowledged %v, health %s (%s); want none, failing", x.acked, x.state.Health, x.state.Why)
		}
		x.mu.Lock()
		x.syncErr = nil
		x.mu.Unlock()
		after(31 * time.Second)
		if !slices.Equal(x.acked, []string{"1-0"}) {
			t.Errorf("acknowledged %v after it was back, want the event", x.acked)
		}
		after(heartbeat)
		if x.state.Health != "ok" {
			t.Errorf("health %s after it was back", x.state.Health)
		}
	})
}

func TestARefusedPathIsListedAndTriedAgainWhileOthersGoOn(t *testing.T) {
	x := swept()
	x.refuse = map[string]string{"bad": "permission denied"}
	inBubble(t, never, x, func(l *loop) {
		l.entries <- []redis.XMessage{event("1-0", "bad"), event("2-0", "good")}
		after(time.Second)
		if len(x.acked) != 2 || x.failed["bad"].Why != "permission denied" || len(x.failed) != 1 {
			t.Errorf("acknowledged %v, failed %v; want both, bad with its reason", x.acked, x.failed)
		}
		after(time.Hour)
		if n := len(x.runs); n < 7 || n > 16 {
			t.Errorf("%d runs in an hour, want a backoff up to 10 min", n)
		}
		x.mu.Lock()
		x.refuse = nil
		x.mu.Unlock()
		after(10 * time.Minute)
		if len(x.failed) != 0 || !slices.Equal(x.heald, []string{"bad"}) {
			t.Errorf("failed %v, healed %v; want bad healed", x.failed, x.heald)
		}
	})
}

func TestANewTargetIsSweptAlsoWithSweepsOff(t *testing.T) {
	x := &target{drift: []string{"old"}}
	inBubble(t, never, x, func(l *loop) {
		after(time.Hour)
		if len(x.sweeps) != 1 || len(x.runs) != 1 || x.runs[0].paths[0] != "old" {
			t.Errorf("sweeps at %v, runs %v; want one sweep that repairs", x.sweeps, x.runs)
		}
		if s := x.state.Sweep; s.Drift != 1 || s.Repaired != 1 || s.Left != 0 || s.Finished.IsZero() {
			t.Errorf("the sweep ended as %+v", s)
		}
	})
}

func TestSweepsComeWithJitter(t *testing.T) {
	x := swept()
	inBubble(t, Config{SweepEvery: time.Hour}, x, func(l *loop) {
		after(10*time.Hour + time.Minute)
		if n := len(x.sweeps); n < 10 || n > 11 {
			t.Errorf("%d sweeps in 10 h, want 10 or 11", n)
		}
		for i, at := range x.sweeps {
			last := time.Duration(0)
			if i > 0 {
				last = x.sweeps[i-1]
			}
			if gap := at - last; gap < 54*time.Minute || gap > time.Hour+2*heartbeat {
				t.Errorf("sweep %d came after %v, want 54 to 60 min", i, gap)
			}
		}
	})
}

func TestAGapIsShownUntilASweepFoundEquality(t *testing.T) {
	x := swept()
	x.cmpErr = errors.New("no way through")
	inBubble(t, never, x, func(l *loop) {
		l.gaps <- "redis lost its data"
		after(time.Minute)
		if x.state.Gap == "" || x.state.Health != "degraded" || x.state.SweepFault == "" {
			t.Errorf("gap %q, health %s, fault %q; want all of it shown", x.state.Gap, x.state.Health, x.state.SweepFault)
		}
		x.mu.Lock()
		x.cmpErr, x.drift = nil, []string{"missed"}
		x.mu.Unlock()
		after(time.Minute)
		if x.state.Gap != "" || x.state.Health != "ok" || x.runs[0].paths[0] != "missed" {
			t.Errorf("gap %q, health %s, runs %v; want it closed", x.state.Gap, x.state.Health, x.runs)
		}
	})
}

func TestASweepThatCannotCompareDelaysNoEvent(t *testing.T) {
	x := &target{cmpErr: errors.New("no way through")}
	inBubble(t, never, x, func(l *loop) {
		after(10 * time.Minute)
		l.entries <- []redis.XMessage{event("1-0", "a")}
		synctest.Wait()
		if len(x.runs) != 1 || len(x.acked) != 1 {
			t.Errorf("runs %v, want the event shipped at once", x.runs)
		}
	})
}

func TestADryRunIsNoSweep(t *testing.T) {
	x := swept()
	x.drift = []string{"a"}
	inBubble(t, never, x, func(l *loop) {
		first := l.state.Sweep.Finished
		after(time.Minute)
		l.orders <- "dry-run 7"
		after(time.Minute)
		s := x.state.Sweep
		if len(x.runs) != 0 || s.Drift != 1 || s.Left != 1 || s.ID != "7" || !s.Finished.Equal(first) {
			t.Errorf("runs %v, sweep %+v; want nothing shipped, one path left", x.runs, s)
		}
	})
}

func TestWhatCannotBeRepairedIsLeft(t *testing.T) {
	x := swept()
	x.drift, x.refuse = []string{"a", "b"}, map[string]string{"b": "refused"}
	inBubble(t, never, x, func(l *loop) {
		l.orders <- "sweep 8"
		after(time.Minute)
		if s := x.state.Sweep; s.Drift != 2 || s.Repaired != 1 || s.Left != 1 || x.state.Health != "degraded" {
			t.Errorf("sweep %+v, health %s; want one left", s, x.state.Health)
		}
		x.mu.Lock()
		x.refuse = nil
		x.mu.Unlock()
		after(time.Hour)
		if s := x.state.Sweep; len(x.sweeps) != 2 || s.Left != 0 || x.state.Health != "ok" {
			t.Errorf("%d sweeps, %+v, %s; want a second sweep that proves what was healed", len(x.sweeps), s, x.state.Health)
		}
	})
}

func TestDirectoryTimesSettleOnceTheTargetIsQuiet(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		l.entries <- []redis.XMessage{event("1-0", "d/a")}
		after(time.Second)
		l.entries <- []redis.XMessage{event("2-0", "d/b")}
		after(quiet - time.Millisecond)
		if len(x.settled) != 0 {
			t.Error("times were set while files came")
		}
		after(time.Millisecond)
		if len(x.settled) != 1 || len(x.settled[0]) != 2 {
			t.Errorf("settled %v, want d/a and d/b once", x.settled)
		}
		after(time.Hour)
		if len(x.settled) != 1 {
			t.Errorf("settled %d times with nothing new", len(x.settled))
		}
	})
}
