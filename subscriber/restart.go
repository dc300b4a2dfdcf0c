package subscriber

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// restarted is the gap after a restart of a Redis that may forget: one with
// snapshots alone comes back as of the last, a failed-over one without what was
// not replicated. Groups, counts and ids then agree with each other, so that
// nothing else shows it.
const restarted = "redis was restarted or replaced, and may have come back without its last events"

// ungrouped is the gap of a group that is gone, with the events that it had not
// acknowledged.
const ungrouped = "redis lost its data: the consumer group was gone"

// regroup makes the group. Where there was one before, the state says so first: once
// it is made anew nothing else shows it.
func (s *Subscriber) regroup(ctx context.Context, state *State) error {
	there, err := s.queue.grouped(ctx)
	if err != nil {
		return err
	}
	if !there && state.Target != "" {
		s.lost(state, ungrouped)
		if err := s.queue.save(ctx, *state); err != nil {
			return err
		}
	}
	return s.queue.makeGroup(ctx)
}

// lost notes a gap in the state of the last process.
func (s *Subscriber) lost(state *State, reason string) {
	s.cfg.Log.Warn().Str("target", s.cfg.Target).Str("reason", reason).Msg("events may have been lost; a sweep will tell")
	state.Gap = reason
}

// run is the id of the Redis process, new after each restart and failover;
// empty where the ACL does not let us ask.
func (q *queue) run(ctx context.Context) (string, error) {
	text, err := q.server(ctx)
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "NOPERM"):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("ask redis which run it is: %w", err)
	}
	_, rest, _ := strings.Cut(text, "run_id:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id, nil
}

// server asks the Redis process that has the root's keys.
func (q *queue) server(ctx context.Context) (string, error) {
	if cluster, ok := q.redis.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, q.keys.Events())
		if err != nil {
			return "", err
		}
		return node.Info(ctx, "server").Result()
	}
	return q.redis.Info(ctx, "server").Result()
}

// recall compares the Redis of the last state with this one.
func (s *Subscriber) recall(ctx context.Context, state *State) error {
	if s.cfg.Durable {
		return nil
	}
	run, err := s.queue.run(ctx)
	if err != nil {
		return err
	}
	if state.RedisRun != "" && run != state.RedisRun && state.Gap == "" {
		s.lost(state, restarted)
	}
	state.RedisRun = run
	return nil
}

// restarts tells the id of each new run of Redis.
func (s *Subscriber) restarts(ctx context.Context, run string, runs chan<- string) error {
	if s.cfg.Durable || run == "" {
		return nil
	}
	for pause(ctx, fastsync.BeatWithin(fastsync.Beat)) {
		if now, err := s.queue.run(ctx); err == nil && now != "" && now != run {
			run = now
			send(ctx, runs, run)
		}
	}
	return nil
}
