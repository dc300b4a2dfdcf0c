package subscriber

import (
	"cmp"
	"context"
	"maps"
	"path"
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
	lane  fastsync.Lane
	paths []string
}

// seen is what came to a target and into its ledger.
type seen struct {
	runs    []run
	sweeps  []time.Duration
	settled [][]fastsync.Change
	tidied  []fastsync.Change
	acked   []string
	failed  map[string]failedPath
	heald   []string
	state   State
	handed  []fastsync.Change
}

// target is a Syncer and ledger in memory, with faults to order.
type target struct {
	begun time.Time

	mu sync.Mutex // the loop, what runs beside it and the test; for all below
	seen
	took      time.Duration // by one run
	large     time.Duration // by one of the bulk lane, if it is not 0
	tooLarge  string        // this path is not for the live lane
	pulls     bool          // no tree is for the live lane
	opened    string        // this path is open when the directory above it runs
	syncErr   error
	bulkErr   error             // of the bulk lane alone
	refuse    map[string]string // path → reason
	refuseAll string            // reason
	again     string            // this path changes during each run
	waits     string            // another run lists the directory of this one
	leaves    []string          // found by the next comparison of repaired paths
	parts     string            // a folder of parts that sweeps find
	cut       bool              // each run ends early
	broke     bool              // a run broke a short while ago
	drift     []string          // found by the next comparison of the whole root
	late      string            // of these a directory of which only the time differs
	cmpErr    error
	tidyErr   error
	settleErr error
	saveErr   error
	away      bool // from redis, for longer than the claim lasts
}

// look waits until nothing moves and gives a copy: no goroutine is ordered
// after what a test does, so a later write would race with its reads.
func (x *target) look() seen {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.seen
	s.runs, s.sweeps, s.settled = slices.Clone(s.runs), slices.Clone(s.sweeps), slices.Clone(s.settled)
	s.tidied, s.handed = slices.Clone(s.tidied), slices.Clone(s.handed)
	s.acked, s.failed, s.heald = slices.Clone(s.acked), maps.Clone(s.failed), slices.Clone(s.heald)
	return s
}

// order changes what the target does from now on.
func (x *target) order(change func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change()
}

func (x *target) Sync(_ context.Context, lane fastsync.Lane, changes []fastsync.Change) (fastsync.Outcome, error) {
	var out fastsync.Outcome
	x.mu.Lock()
	r := run{at: time.Since(x.begun), lane: lane}
	for _, c := range changes {
		r.paths = append(r.paths, c.Path)
		if c.Path == x.again {
			out.Again = append(out.Again, c)
		}
		if c.Path == x.waits {
			out.Waits = append(out.Waits, c)
		}
		if x.opened != "" && c.Path == path.Dir(x.opened) {
			out.Again = append(out.Again, fastsync.Change{Path: x.opened, Scope: fastsync.Entry})
		}
		if (c.Path == x.tooLarge || x.pulls && c.Scope == fastsync.Tree) && lane == fastsync.Live {
			out.Bulk = append(out.Bulk, c)
		}
		if why := cmp.Or(x.refuse[c.Path], x.refuseAll); why != "" {
			out.Failed = append(out.Failed, fastsync.Failure{Change: c, Reason: why})
		}
	}
	x.runs = append(x.runs, r)
	took, err := x.took, x.syncErr
	if lane == fastsync.Bulk && x.bulkErr != nil {
		err = x.bulkErr
	}
	out.Untried = err == nil && len(out.Waits) == len(changes)
	out.Cut, out.Late = x.cut, x.broke
	if lane == fastsync.Bulk && x.large > 0 {
		took = x.large
	}
	x.mu.Unlock()
	time.Sleep(took) // fake time
	return out, err
}

func (x *target) Compare(_ context.Context, changes []fastsync.Change, found func(fastsync.Difference)) error {
	x.mu.Lock()
	var drift []string
	if changes == nil && x.parts != "" {
		defer found(fastsync.Difference{Change: fastsync.Change{Path: x.parts, Scope: fastsync.Tree}, Gone: true})
	}
	if changes == nil {
		x.sweeps = append(x.sweeps, time.Since(x.begun))
		drift, x.drift = x.drift, nil
	}
	if changes != nil {
		drift, x.leaves = x.leaves, nil
	}
	err := x.cmpErr
	x.mu.Unlock()
	for _, p := range drift {
		found(fastsync.Difference{Change: fastsync.Change{Path: p, Scope: fastsync.Entry}, Times: p == x.late})
	}
	return err
}

func (x *target) Tidy(_ context.Context, changes []fastsync.Change) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.tidyErr == nil {
		x.tidied = append(x.tidied, changes...)
	}
	return x.tidyErr
}

func (x *target) Settle(_ context.Context, changes []fastsync.Change) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.settleErr == nil {
		x.settled = append(x.settled, changes)
	}
	return x.settleErr
}

func (x *target) ack(_ context.Context, ids []string, _ []delivery) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.acked = append(x.acked, ids...)
	return nil
}

func (x *target) fail(_ context.Context, failed map[string]failedPath) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, f := range failed {
		x.failed[p] = f
	}
	return nil
}

func (x *target) healed(_ context.Context, paths []string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heald = append(x.heald, paths...)
	for _, p := range paths {
		delete(x.failed, p)
	}
	return nil
}

func (x *target) lapsed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.away
}

func (x *target) republish(_ context.Context, changes []fastsync.Change) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handed = append(x.handed, changes...)
	return len(changes), nil
}

func (x *target) save(_ context.Context, s State) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.saveErr == nil {
		x.state = s
	}
	return x.saveErr
}

// give hands events to a loop.
func give(l *loop, events ...redis.XMessage) { l.hand(context.Background(), events) }

// inBubble runs a loop on fake time; within acts on it and then looks.
func inBubble(t *testing.T, cfg Config, x *target, within func(l *loop)) {
	t.Helper()
	inBubbleOf(t, cfg, x, x, within)
}

// inBubbleOf does so for a Syncer around the target. What an earlier loop left
// in the target's ledger is where this one begins.
func inBubbleOf(t *testing.T, cfg Config, x *target, syncer Syncer, within func(l *loop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x.begun = time.Now()
		cfg.Syncer, cfg.Target, cfg.Log = syncer, "web1", zerolog.Nop()
		s := New(cfg)
		l := newLoop(s.cfg, x)
		if x.failed == nil {
			x.failed = map[string]failedPath{}
		}
		for p, f := range x.failed {
			l.retry[fastsync.Change{Path: p, Scope: f.Scope}] = f
		}
		if g, ok := syncer.(*gated); ok {
			g.gate = make(chan struct{}) // of this bubble
		}
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
func swept() *target {
	return &target{seen: seen{state: State{Sweep: Sweep{Finished: time.Unix(1, 0)}}}}
}

func event(id, p string) redis.XMessage {
	return redis.XMessage{ID: id, Values: map[string]any{"path": p, "scope": "entry", "origin": "cms", "at": "1"}}
}

func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

var never = Config{SweepEvery: -1}
