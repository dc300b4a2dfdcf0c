package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// sure keeps what it has acknowledged, forgetful keeps nothing.
func sure(r *rig)      { r.redisArg = []string{"--appendonly", "yes", "--save", ""} }
func forgetful(r *rig) { r.redisArg = []string{"--appendonly", "no", "--save", ""} }

// loadDelay is redis-server's option for how long each key takes to load, in microseconds.
const loadDelay = "--key-load-delay"

// shortened has Redis write its append-only file anew, as what there is now.
func (r *rig) shortened(ctx context.Context) error {
	if err := r.client.BgRewriteAOF(ctx).Err(); err != nil {
		return err
	}
	return lab.Until(ctx, 30*time.Second, 50*time.Millisecond, func() bool {
		info, err := r.client.Info(ctx, "persistence").Result()
		return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
}

func killRedis(ctx context.Context, r *rig) error {
	if err := lab.Pause(ctx, r.random(0, time.Second)); err != nil {
		return err
	}
	r.redis.Kill()
	return lab.Pause(ctx, r.random(0, 2*time.Second))
}

func startRedis(ctx context.Context, r *rig) error { return r.redis.Start(ctx) }

// do sends Redis a command past the proxy.
func do(args ...any) func(ctx context.Context, r *rig) error {
	return func(ctx context.Context, r *rig) error { return r.client.Do(ctx, args...).Err() }
}

// behind does harm while the subscriber has not read the last events.
func behind(harm func(ctx context.Context, r *rig) error) func(ctx context.Context, r *rig) error {
	return func(ctx context.Context, r *rig) error {
		r.stopped(r.sub, true)
		defer r.stopped(r.sub, false)
		if err := lab.Pause(ctx, r.random(300*time.Millisecond, 1500*time.Millisecond)); err != nil {
			return err
		}
		return harm(ctx, r)
	}
}

var redisFaults = []fault{
	{
		name: "redis killed, with AOF", promised: "nothing acknowledged is lost; the restart is a gap, and swept", fast: true,
		set: sure, harm: killRedis, heal: startRedis, gap: true,
	},
	{
		name: "redis killed, without persistence", promised: "a gap, and swept",
		set: forgetful, harm: killRedis, heal: startRedis, gap: true,
	},
	{
		name: "redis away", promised: "the agent holds a bounded set; shown; heals by itself",
		set: sure, gap: true, shows: "does not answer",
		harm: func(ctx context.Context, r *rig) error {
			r.redis.Kill()
			return lab.Pause(ctx, r.long)
		},
		heal: startRedis,
	},
	{
		name: "redis in a black hole", promised: "noticed; goes on with no loss", fast: true,
		set: sure, shows: "redis",
		harm: func(ctx context.Context, r *rig) error {
			r.proxy.Hole(true)
			return lab.Pause(ctx, min(r.long, 12*time.Second)) // for more than one try to end without an answer
		},
		heal: func(_ context.Context, r *rig) error {
			r.proxy.Reset() // as a firewall forgets them: nothing that was sent meanwhile arrives
			r.proxy.Hole(false)
			return nil
		},
	},
	{
		name: "redis 500 ms away", promised: "slower, and that is all",
		set: sure,
		harm: func(ctx context.Context, r *rig) error {
			r.proxy.Delay(250 * time.Millisecond)
			return lab.Pause(ctx, 8*time.Second)
		},
		heal: func(_ context.Context, r *rig) error { r.proxy.Delay(0); return nil },
	},
	{
		name: "redis connections reset", promised: "connected again with no loss", fast: true,
		set: sure,
		harm: func(ctx context.Context, r *rig) error {
			r.proxy.Delay(10 * time.Millisecond) // so that most resets come in the midst of something
			defer r.proxy.Delay(0)
			for range 20 {
				r.proxy.Reset()
				if err := lab.Pause(ctx, r.random(time.Millisecond, 150*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "a failover that loses writes", promised: "a gap, and swept", settles: minute,
		set: func(r *rig) {
			apart(r)
			r.redisArg = append(r.redisArg, "--repl-diskless-sync-delay", "0")
			r.watched = true
		}, gap: true, harm: behind(failOver), heal: failedOver,
	},
	{name: "FLUSHALL", promised: "a gap, and swept", set: apart, gap: true, harm: behind(do("FLUSHALL"))},
	{name: "events deleted", promised: "a gap, and swept", fast: true, set: apart, gap: true, harm: behind(do("DEL", keys().Events()))},
	{
		name: "redis out of memory", promised: "shown; the agent holds what it has; heals",
		set: sure, shows: "OOM|maxmemory|memory", harm: do("CONFIG", "SET", "maxmemory", "1"), heal: do("CONFIG", "SET", "maxmemory", "0"),
	},
	{
		name: "redis read-only", promised: "shown; heals",
		set: sure, shows: "READONLY|replica", harm: do("REPLICAOF", "127.0.0.1", "1"), heal: do("REPLICAOF", "NO", "ONE"),
	},
	{
		name: "redis loads for long", promised: "waited for; the restart is a gap, and swept",
		set: sure, gap: true, shows: "LOADING|loading",
		harm: func(ctx context.Context, r *rig) error {
			pipe := r.client.Pipeline()
			for i := range 5000 {
				pipe.Set(ctx, "load-"+strconv.Itoa(i), "x", 0)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
			if err := r.shortened(ctx); err != nil { // each command that is left takes as long as a key
				return err
			}
			r.redis.Kill()
			if !slices.Contains(r.redis.Args, loadDelay) {
				r.redis.Args = append(r.redis.Args, loadDelay, "1000", "--loading-process-events-interval-bytes", "1024") // it answers meanwhile
			}
			return r.redis.Launch()
		},
		heal: func(ctx context.Context, r *rig) error {
			return lab.Until(ctx, time.Minute, 50*time.Millisecond, func() bool { return r.client.Ping(ctx).Err() == nil })
		},
	},
	{
		name: "redis forbids XADD", promised: "shown; the agent holds what it has; heals",
		set: sure, shows: "NOPERM|permission", harm: do("ACL", "SETUSER", "default", "-xadd"), heal: do("ACL", "SETUSER", "default", "+@all"),
	},
	{
		name: "events trimmed unread", promised: "a gap, and swept", fast: true,
		set: apart, gap: true, harm: behind(do("XTRIM", keys().Events(), "MAXLEN", 0)),
	},
	{
		name: "an event with the highest id", promised: "shown; after the key is deleted a gap, and swept",
		set: sure, gap: true, shows: "exhausted|top item",
		harm: do("XADD", keys().Events(), "18446744073709551615-18446744073709551615", "path", "x"), heal: do("DEL", keys().Events()),
	},
	{
		name: "the relay cut off from Pub/Sub", promised: "what was published meanwhile is found by a catch-up",
		set: func(r *rig) { sure(r); r.watch, r.still = "off", true },
		harm: func(ctx context.Context, r *rig) error {
			for i := range 100 {
				p := filepath.Join(r.root, fmt.Sprintf("cms-%d-%d", r.next(), i))
				if err := os.WriteFile(p, record(r.rng, 1000), 0o644); err != nil {
					return err
				}
				if i%10 == 5 {
					if err := r.client.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
						return err
					}
				}
				if err := r.client.Publish(ctx, channel, p).Err(); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "the relay too slow for Pub/Sub", promised: "what was published after it was cut off is found by a catch-up",
		set: func(r *rig) {
			apart(r)
			r.watch, r.still, r.near = "off", true, true // a proxy would keep what the agent does not read
			r.redisArg = append(r.redisArg, "--client-output-buffer-limit", "pubsub 1mb 1mb 0")
		},
		harm: tooSlow,
	},
}

// tooSlow publishes more than Redis keeps for an agent that does not read.
func tooSlow(ctx context.Context, r *rig) error {
	r.stopped(r.agent, true)
	defer r.stopped(r.agent, false)
	junk := strings.Repeat("x", 7000)
	err := lab.Until(ctx, 30*time.Second, 0, func() bool {
		heard, err := r.client.Publish(ctx, channel, junk).Result()
		return err != nil || heard == 0
	})
	if err != nil {
		return fmt.Errorf("redis still keeps what the agent does not read: %w", err)
	}
	for i := range 50 {
		p := filepath.Join(r.root, fmt.Sprintf("cms-slow-%d-%d", r.next(), i))
		if err := os.WriteFile(p, record(r.rng, 1000), 0o644); err != nil {
			return err
		}
		if err := r.client.Publish(ctx, channel, p).Err(); err != nil {
			return err
		}
	}
	return nil
}
