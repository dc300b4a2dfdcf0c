package main

import (
	"context"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/watcher"
)

// owedBeat is the time between two writes of the state while a catch-up runs or
// is tried again, or Redis takes no events.
const owedBeat = 2 * time.Second

// relayWait is how long the first catch-up waits for the relay to listen, so
// that no published path falls between the two.
const relayWait = 2 * time.Second

// catching are the catch-ups of the agent, one at a time. Each runs in a goroutine
// of its own, so that the agent says all the while that it lives.
type catching struct {
	// since is the checkpoint: every change before it is in Redis. It stays while
	// a catch-up is owed, since nobody knows what that will find.
	since time.Time
	owed  bool // one runs, or is to run
	due   bool // one is to run now
	// gap is when the oldest gap began that the next one is to look for; zero for none.
	gap time.Time
	// begun is when the one that runs did, zero while none does; ended when one did well.
	begun, ended time.Time
	fault        string // why the last one failed
	done         chan error
}

// checkpoints catches up from the last checkpoint at start and at each gap,
// and moves the checkpoint on as the watcher's events reach Redis.
func (s *service) checkpoints(ctx context.Context, keys fastsync.Keys, a parts, gaps <-chan time.Time) error {
	since, err := s.lastCheckpoint(ctx, keys)
	if err != nil {
		return nil // only the end of ctx stops it
	}
	if since.IsZero() {
		since = time.Now() // the first start, which is stored at once: every target is new, so each is swept
	}
	c := &catching{since: since, owed: true, due: true, done: make(chan error, 1)}
	defer c.wait()
	ready, heard := a.watcher.Ready(), false // what the first catch-up waits for
	var patience <-chan time.Time
	for {
		if c.due && c.begun.IsZero() && ready == nil && heard {
			c.start(ctx, a)
		}
		beat := s.tell(ctx, keys, a, c)
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
			ready, patience = nil, time.After(relayWait)
		case <-patience:
			heard = true // it catches up once more when the relay listens
		case gap := <-gaps: // the relay listens
			heard, c.due, c.gap = true, true, earlier(gap, c.gap)
		case err := <-c.done:
			s.caughtUp(ctx, a, c, err)
		case <-time.After(beat):
			c.due = c.due || c.owed && c.begun.IsZero() // one that failed is tried again
		}
	}
}

// start begins a catch-up.
func (c *catching) start(ctx context.Context, a parts) {
	since := earlier(c.since, c.gap)
	c.since, c.gap, c.owed, c.due, c.begun = since, time.Time{}, true, false, time.Now()
	go func() { c.done <- a.watcher.CatchUp(ctx, since) }()
}

// wait returns when none runs.
func (c *catching) wait() {
	if !c.begun.IsZero() {
		<-c.done
	}
}

// caughtUp follows the end of a catch-up.
func (s *service) caughtUp(ctx context.Context, a parts, c *catching, err error) {
	begun := c.begun
	c.begun = time.Time{}
	if err != nil {
		if ctx.Err() == nil {
			c.fault = err.Error()
			s.log.Error().Err(err).Msg("could not catch up; trying again")
		}
		return
	}
	c.owed, c.ended, c.fault = false, time.Now(), ""
	if s.cfg.Watch == "off" {
		c.since = begun // else the watcher's checkpoint says, which waits for open files
	}
	c.moveOn(a.watcher.Status())
}

// moveOn moves the checkpoint to the watcher's, which has none while it is off.
func (c *catching) moveOn(watch watcher.Status) {
	if !c.owed && watch.Checkpoint.After(c.since) {
		c.since = watch.Checkpoint
	}
}

// earlier is the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// tell writes how things are, and returns when to do so again.
func (s *service) tell(ctx context.Context, keys fastsync.Keys, a parts, c *catching) time.Duration {
	watch, fault := a.watcher.Status(), a.publisher.Fault()
	c.moveOn(watch)
	s.beat(ctx, keys, earlier(c.since, c.gap), agentState{
		Heartbeat: time.Now(), Source: s.cfg.Source, Watch: watch, Relayed: a.relay.Relayed(), Refused: a.relay.Refused(),
		Version: ownVersion(), CaughtUp: c.ended, CatchingUp: c.begun, CatchUpFault: c.fault, Chosen: s.chosen(watch.Fallback), RedisFault: fault,
	})
	if c.owed || fault != "" {
		return owedBeat
	}
	return fastsync.BeatWithin(fastsync.Beat) // and so much of what is known a restart looks for once more
}
