package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/publisher"
	"github.com/fastsync/fastsync/watcher"
)

// agentState is what the agent tells, kept as JSON in the agent hash.
type agentState struct {
	Heartbeat time.Time      `json:"heartbeat"`
	Source    string         `json:"source"`
	Watch     watcher.Status `json:"watch"`
	Relayed   int64          `json:"relayed"`
	Refused   int64          `json:"refused"`
	Version   string         `json:"version"`
	// CaughtUp is when the last catch-up of this process ended.
	CaughtUp time.Time `json:"caught_up,omitzero"`
	// CatchingUp is when the one began that runs; zero while none does.
	CatchingUp time.Time `json:"catching_up,omitzero"`
	// CatchUpFault says why the last one failed, which is tried again.
	CatchUpFault string `json:"catch_up_fault,omitempty"`
	// Chosen says why the watch mode is what it is.
	Chosen string `json:"chosen"`
	// RedisFault says why Redis takes no events; empty while it does.
	RedisFault string `json:"redis_fault,omitempty"`
}

// parts are what an agent has.
type parts struct {
	watcher   *watcher.Watcher
	relay     *publisher.Relay
	publisher *publisher.Publisher
}

func realDir(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return dir, fmt.Errorf("--source %s: %w; give a folder that exists", dir, err)
	}
	if info, err := os.Stat(real); err == nil && !info.IsDir() {
		return dir, fmt.Errorf("--source %s is a file; give the folder that it is in", dir)
	}
	return filepath.Abs(real)
}

func (s *service) runAgent(ctx context.Context) error {
	keys := fastsync.NewKeys(s.cfg.Name)
	pub := publisher.New(publisher.Config{Redis: s.redis, Keys: keys, Log: s.log})
	w, err := watcher.New(watcher.Config{
		Root: s.cfg.Source, Publisher: pub, Excluded: s.filter.Excluded, Mode: s.mode,
		Fallback: s.cfg.Watch == "auto", Log: s.log,
	})
	if err != nil {
		return err
	}
	gaps := make(chan time.Time, 1)
	relay := publisher.NewRelay(publisher.RelayConfig{
		Redis: s.redis, Channel: s.cfg.Channel, Source: s.cfg.Source, Publisher: pub, Log: s.log,
		Gap: func(since time.Time) { // of one goroutine
			select {
			case waits := <-gaps:
				since = earlier(since, waits)
			default:
			}
			gaps <- since
		},
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.Run(ctx) })
	g.Go(func() error { return relay.Run(ctx) })
	g.Go(func() error { return s.checkpoints(ctx, keys, parts{w, relay, pub}, gaps) })
	return g.Wait()
}

// chooseWatch decides what --watch means here, before anything starts.
func (s *service) chooseWatch(sourceGood bool) error {
	s.mode = s.cfg.Watch
	switch s.cfg.Watch {
	case "fsnotify", "off":
		return nil
	case "auto", "fanotify":
	default:
		return fmt.Errorf("--watch %q: use auto, fsnotify, fanotify or off", s.cfg.Watch)
	}
	if !sourceGood || s.filter == nil {
		return nil // told already
	}
	s.noFanotify = watcher.Probe(s.cfg.Source, s.filter.Excluded)
	if s.cfg.Watch == "fanotify" {
		if s.noFanotify != nil {
			return fmt.Errorf("--watch fanotify: %w; or use --watch auto", s.noFanotify)
		}
		return nil
	}
	s.mode = watcher.Fanotify
	if s.noFanotify != nil {
		s.mode = watcher.Fsnotify
	}
	return nil
}

// chosen says why the watch mode is what it is; fallback is why the watcher
// left fanotify while it ran.
func (s *service) chosen(fallback string) string {
	switch {
	case s.cfg.Watch != "auto":
		return "as --watch says"
	case fallback != "":
		return "chosen by auto, while it ran: " + fallback
	case s.noFanotify != nil:
		return "chosen by auto: " + s.noFanotify.Error()
	}
	return "chosen by auto: the kernel and the rights allow it"
}

func (s *service) lastCheckpoint(ctx context.Context, keys fastsync.Keys) (time.Time, error) {
	last := ""
	for {
		all, err := s.redis.HMGet(ctx, keys.Agent(), "checkpoint", "root").Result()
		if err == nil {
			text, _ := all[0].(string)
			var at time.Time
			if root, known := all[1].(string); known && root != s.cfg.Source {
				return time.Time{}, nil // of another root
			}
			_ = at.UnmarshalText([]byte(text)) // stays zero where there is none
			if now := time.Now(); at.After(now) {
				s.log.Warn().Time("checkpoint", at).Time("now", now).Msg("the clock was ahead when the last checkpoint was written; all of the root is published")
				return time.Unix(0, 0), nil
			}
			return at, nil
		}
		if ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			s.log.Error().Err(err).Msg("cannot read the checkpoint from redis; trying again until it answers")
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

func (s *service) beat(ctx context.Context, keys fastsync.Keys, checkpoint time.Time, state agentState) {
	text, err := json.Marshal(state)
	if err != nil {
		return
	}
	values := []any{"state", string(text)}
	if !checkpoint.IsZero() {
		values = append(values, "checkpoint", checkpoint.Format(time.RFC3339Nano), "root", state.Source)
	}
	if err := s.redis.HSet(ctx, keys.Agent(), values...).Err(); err != nil && ctx.Err() == nil {
		s.log.Debug().Err(err).Msg("could not write the agent's state")
	}
}
