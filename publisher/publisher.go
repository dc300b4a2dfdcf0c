// Package publisher puts events into the events stream of a root.
//
// [Publisher] writes: what Publish returned without an error for is in Redis.
// [Relay] listens to the channel of the old system's PUBLISH and turns each
// message into events at once. A message that nobody listened for is lost by
// Redis without a word, so the relay reports each subscription as a gap.
package publisher

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
)

// chunk is how many XADDs travel in one pipeline: large enough to hide the
// round trip, small enough to bound the reply buffer.
const chunk = 1000

// Config is what a Publisher needs.
type Config struct {
	Redis redis.UniversalClient
	Keys  fastsync.Keys
	// MaxEvents caps the stream; 0 means 1,000,000. Redis drops the oldest
	// beyond it, which the subscribers notice as a gap.
	MaxEvents int64
	Log       zerolog.Logger
}

// Publisher writes events. Its methods may be called concurrently.
type Publisher struct {
	cfg   Config
	fault atomic.Pointer[string] // nil while Redis takes events
}

// New returns a Publisher; it does no I/O.
func New(cfg Config) *Publisher {
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = 1_000_000
	}
	return &Publisher{cfg: cfg}
}

// Fault says why Redis takes no events at present; empty while it does.
func (p *Publisher) Fault() string {
	if why := p.fault.Load(); why != nil {
		return *why
	}
	return ""
}

// Publish returns when Redis has every event, trying again for as long as
// that takes. Its only error is that of ctx: the caller holds what it could
// not hand over. A retry may write an event twice, which costs a lookup.
func (p *Publisher) Publish(ctx context.Context, events ...fastsync.Event) error {
	for len(events) > 0 {
		part := events[:min(chunk, len(events))]
		if err := p.insist(ctx, part); err != nil {
			return err
		}
		events = events[len(part):]
	}
	return nil
}

func (p *Publisher) insist(ctx context.Context, events []fastsync.Event) error {
	tries := backoff.NewExponentialBackOff()
	tries.InitialInterval, tries.MaxInterval = 50*time.Millisecond, 5*time.Second
	failed, last := 0, ""
	for {
		_, err := p.Once(ctx, events...)
		if err == nil {
			if failed > 0 {
				p.fault.Store(nil)
				p.cfg.Log.Info().Int("tries", failed).Msg("recovered: redis takes events again")
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failed++; err.Error() != last {
			last = err.Error()
			why := last
			p.fault.Store(&why)
			p.cfg.Log.Error().Err(err).Int("events", len(events)).Msg("redis does not take events; they are kept and tried again")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tries.NextBackOff()):
		}
	}
}

// Once writes the events in one pipeline and returns their ids. After an
// error some of them may be in the stream.
func (p *Publisher) Once(ctx context.Context, events ...fastsync.Event) ([]string, error) {
	pipe := p.cfg.Redis.Pipeline()
	for _, e := range events {
		pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: p.cfg.Keys.Events(), MaxLen: p.cfg.MaxEvents, Approx: true, Values: e.Values(),
		})
	}
	replies, err := pipe.Exec(ctx)
	if err != nil {
		return nil, fmt.Errorf("add %d events to %s: %w", len(events), p.cfg.Keys.Events(), err)
	}
	ids := make([]string, len(replies))
	for i, reply := range replies {
		ids[i] = reply.(*redis.StringCmd).Val()
	}
	return ids, nil
}
