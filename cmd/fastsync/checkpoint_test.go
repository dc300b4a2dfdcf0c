package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/redistest"
	"github.com/fastsync/fastsync/publisher"
	"github.com/fastsync/fastsync/watcher"
)

// agentRig is what of an agent sees to its checkpoint: a watcher that does not watch,
// a real Redis, and gaps that the test makes.
type agentRig struct {
	t     *testing.T
	s     *service
	keys  fastsync.Keys
	redis *redis.Client
	gaps  chan time.Time
	root  string
	takes chan struct{} // closed once Redis takes events
	asked atomic.Int64  // how often it was to

	mu    sync.Mutex
	paths []string
	log   bytes.Buffer
}

func newAgentRig(t *testing.T) *agentRig {
	client := redistest.Client(t, redistest.Start(t))
	r := &agentRig{t: t, keys: fastsync.NewKeys("media"), redis: client, gaps: make(chan time.Time, 1), takes: make(chan struct{}), root: t.TempDir()}
	r.s = &service{cfg: config{Source: r.root, Name: "media", Watch: "off"}, log: zerolog.Nop(), redis: client}
	return r
}

// Write takes the watcher's log.
func (r *agentRig) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(line)
}

// caughtUpSince tells whether a catch-up that began there has ended.
func (r *agentRig) caughtUpSince(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.log.String(), `"since":"`+at.Format(time.RFC3339)+`"`)
}

// Publish takes events, or waits for the end.
func (r *agentRig) Publish(ctx context.Context, events ...fastsync.Event) error {
	r.asked.Add(1)
	select {
	case <-r.takes:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		r.paths = append(r.paths, e.Path)
	}
	return nil
}

// count is how often a path was published.
func (r *agentRig) count(path string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.paths {
		if p == path {
			n++
		}
	}
	return n
}

// start runs it until stop; its watcher is never ready where that is not to watch.
func (r *agentRig) start(watch bool) (stop func()) {
	r.t.Helper()
	w, err := watcher.New(watcher.Config{Root: r.root, Publisher: r, Mode: watcher.Off, Log: zerolog.New(r)})
	if err != nil {
		r.t.Fatal(err)
	}
	pub := publisher.New(publisher.Config{Redis: r.redis, Keys: r.keys, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	if watch {
		running.Go(func() { _ = w.Run(ctx) })
	}
	running.Go(func() {
		_ = r.s.checkpoints(ctx, r.keys, parts{w, publisher.NewRelay(publisher.RelayConfig{}), pub}, r.gaps)
	})
	stop = func() { cancel(); running.Wait() }
	r.t.Cleanup(stop)
	return stop
}

func (r *agentRig) store(checkpoint time.Time) {
	r.t.Helper()
	if err := r.redis.HSet(r.t.Context(), r.keys.Agent(), "checkpoint", checkpoint.Format(time.RFC3339Nano), "root", r.root).Err(); err != nil {
		r.t.Fatal(err)
	}
}

// stored is the checkpoint in Redis; zero where there is none.
func (r *agentRig) stored() (at time.Time) {
	_ = at.UnmarshalText([]byte(r.redis.HGet(r.t.Context(), r.keys.Agent(), "checkpoint").Val()))
	return at
}

func (r *agentRig) state() (st agentState) {
	_ = json.Unmarshal([]byte(r.redis.HGet(r.t.Context(), r.keys.Agent(), "state").Val()), &st)
	return st
}

func (r *agentRig) write(name string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.root, name), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *agentRig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) { // a poll, bounded
		if time.Now().After(end) {
			r.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// A catch-up that takes long, or waits for Redis, holds no heartbeat up. The
// checkpoint stays where that began until it has ended.
func TestTheAgentSaysThatItLivesWhileItCatchesUp(t *testing.T) {
	r := newAgentRig(t)
	since := time.Now().Add(-time.Hour).Round(0)
	r.store(since)
	r.write("f")
	r.gaps <- time.Now() // the relay listens
	stop := r.start(true)
	first := time.Time{}
	r.eventually("a catch-up waits for redis", func() bool { return r.asked.Load() == 1 })
	r.eventually("a heartbeat", func() bool { first = r.state().Heartbeat; return !first.IsZero() })
	r.eventually("another one", func() bool { return r.state().Heartbeat.After(first.Add(owedBeat)) })
	if at := r.stored(); !at.Equal(since) || !r.state().CaughtUp.IsZero() {
		t.Errorf("the checkpoint is %s, what is owed begins at %s; caught up %s", at, since, r.state().CaughtUp)
	}
	stop()
	r.gaps <- time.Now()
	r.start(true)
	close(r.takes)
	r.eventually("the checkpoint moves on", func() bool { return r.stored().After(since) && !r.state().CaughtUp.IsZero() })
	if r.count("f") != 1 {
		t.Errorf("f was published %d times", r.count("f"))
	}
}

// Who died before its first catch-up had ended was the first start all the same: the
// next one looks for what changed since then.
func TestAFirstStartThatDiesLeavesItsCheckpoint(t *testing.T) {
	r := newAgentRig(t)
	stop := r.start(false)
	r.eventually("a checkpoint", func() bool { return !r.stored().IsZero() })
	stop()
	first := r.stored()
	since, err := r.s.lastCheckpoint(t.Context(), r.keys)
	if err != nil || !since.Equal(first) {
		t.Errorf("the next start begins at %s, %v; want %s", since, err, first)
	}
}

// A gap that comes while a catch-up runs has another one follow, from where the gap
// began. The checkpoint in Redis is there at once: the agent may die.
func TestAGapDuringACatchUpIsLookedForAfterwards(t *testing.T) {
	r := newAgentRig(t)
	r.store(time.Now().Add(-time.Hour))
	r.write("f")
	r.gaps <- time.Now()
	r.start(true)
	r.eventually("a catch-up waits for redis", func() bool { return r.asked.Load() == 1 })
	gap := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	r.gaps <- gap
	r.eventually("the checkpoint is where the gap began", func() bool { return r.stored().Equal(gap) })
	close(r.takes)
	r.eventually("it is looked for", func() bool { return r.caughtUpSince(gap) })
	r.eventually("the checkpoint moves on", func() bool { return r.stored().After(gap) })
	if n := r.count("f"); n != 2 {
		t.Errorf("f was published %d times", n)
	}
}

// The relay may notice late that it hears nothing, when the checkpoint is already later.
func TestAGapIsLookedForFromWhereItBegan(t *testing.T) {
	r := newAgentRig(t)
	close(r.takes)
	r.gaps <- time.Now()
	r.start(true)
	r.eventually("the first catch-up", func() bool { return !r.state().CaughtUp.IsZero() })
	gap := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	r.gaps <- gap
	r.eventually("another one", func() bool { return r.caughtUpSince(gap) })
}
