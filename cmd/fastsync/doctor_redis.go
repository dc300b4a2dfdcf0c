package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// oldest is the first Redis that counts what a group has read.
const oldest = 7

// redis looks at the Redis that fastsync is to use: the one of --redis, the one
// of a fastsync that runs, or the program that would be started.
func (d *doctor) redis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if d.s.cfg.Redis == "" {
		d.folder("state-dir", d.s.cfg.StateDir)
	}
	client, err := d.s.cfg.connect(ctx)
	switch {
	case err == nil:
		defer func() { _ = client.Close() }()
		d.server(ctx, client)
		d.rights(ctx, client)
	case d.s.cfg.Redis != "":
		d.bad("redis", err.Error())
	default:
		d.program(ctx)
	}
}

// program looks at a redis-server that nobody has started yet.
func (d *doctor) program(ctx context.Context) {
	if err := d.s.prepareRedis(); err != nil {
		d.bad("redis", err.Error())
		return
	}
	text, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	version := field(string(text), "v=")
	switch {
	case err != nil:
		d.bad("redis", fmt.Sprintf("redis-server --version: %v; install redis-server anew", err))
	case major(version) < oldest:
		d.bad("redis", fmt.Sprintf("redis-server is of version %s; fastsync needs 7.0 or newer", version))
	default:
		d.good("redis", "redis-server %s would be started, with its append-only file on", version)
	}
}

// server looks at what a Redis tells of itself.
func (d *doctor) server(ctx context.Context, client redis.UniversalClient) {
	info, err := client.Info(ctx).Result()
	if err != nil {
		d.risk("redis", "does not tell its version and persistence: %v; see that it is 7.0 or newer, with appendonly yes and maxmemory-policy noeviction", err)
		return
	}
	version := value(info, "redis_version")
	if major(version) < oldest {
		d.bad("redis", fmt.Sprintf("is of version %s; fastsync needs 7.0 or newer", version))
	}
	if value(info, "aof_enabled") == "1" {
		d.good("redis", "%s keeps an append-only file", version)
	} else {
		d.risk("redis", "%s keeps no append-only file, so that each restart of it costs a sweep of each target: appendonly yes", version)
	}
	policy := value(info, "maxmemory_policy")
	switch {
	case value(info, "maxmemory") == "0":
		d.good("redis", "has no limit of memory, so that it evicts nothing")
	case policy != "noeviction":
		d.bad("redis", fmt.Sprintf("evicts keys when its memory is full (%s), fastsync's too: maxmemory-policy noeviction", policy))
	default:
		d.good("redis", "evicts nothing")
	}
	d.clock(ctx, client)
}

// clock compares the clocks, by which status tells how late events are.
func (d *doctor) clock(ctx context.Context, client redis.UniversalClient) {
	before := time.Now()
	there, err := client.Time(ctx).Result()
	if err != nil {
		return // a right that fastsync does not need
	}
	took := time.Since(before)
	off := there.Sub(before.Add(took / 2)).Abs()
	if off > time.Second+took {
		d.risk("redis", "its clock and this host's differ by %s, and the lag in status is off by that: set both by NTP", off.Round(time.Millisecond))
		return
	}
	d.good("redis", "answers within %s; its clock agrees", took.Round(10*time.Microsecond))
}

// rights tries what an agent and a subscriber send, in forms that change nothing:
// a Redis looks at the rights, its memory and whether it may be written first.
func (d *doctor) rights(ctx context.Context, client redis.UniversalClient) {
	key := fastsync.NewKeys(d.s.cfg.Name).Doctor(strconv.Itoa(os.Getpid()))
	agent := refusals(ctx, client,
		[]any{"XADD", key, "NOMKSTREAM", "*", "doctor", "1"}, []any{"HMGET", key, "doctor"})
	sub := client.Subscribe(ctx)
	err := sub.Subscribe(ctx, d.s.cfg.Channel)
	if err == nil {
		_, err = sub.Receive(ctx)
	}
	if err != nil {
		agent = append(agent, fmt.Sprintf("SUBSCRIBE %s: %v", d.s.cfg.Channel, err))
	}
	_ = sub.Close()
	subscriber := refusals(ctx, client,
		[]any{"XGROUP", "CREATE", key, "doctor", "0"}, []any{"XREADGROUP", "GROUP", "doctor", "doctor", "COUNT", "1", "STREAMS", key, ">"},
		[]any{"XPENDING", key, "doctor"}, []any{"XACK", key, "doctor", "0-1"}, []any{"XTRIM", key, "MAXLEN", "1000"},
		[]any{"XADD", key, "NOMKSTREAM", "*", "doctor", "1"}, []any{"HGETALL", key}, []any{"HDEL", key, "doctor"},
		[]any{"PUBSUB", "NUMSUB", "doctor"}, []any{"EVAL", "return 1", "1", key})
	const rights = "the rights are in contrib/redis/users.acl"
	switch {
	case len(agent)+len(subscriber) == 0:
		d.good("redis", "takes what an agent and a subscriber send, and lets channel %s be heard", d.s.cfg.Channel)
	case len(agent) == 0:
		d.risk("redis", "takes what an agent sends, but nothing of a subscriber; %s\n%s", rights, strings.Join(subscriber, "\n"))
	case len(subscriber) == 0:
		d.risk("redis", "takes what a subscriber sends, but nothing of an agent; %s\n%s", rights, strings.Join(agent, "\n"))
	default:
		d.bad("redis", "refuses what fastsync needs; "+rights+"\n"+strings.Join(append(agent, subscriber...), "\n"))
	}
}

// refusals are the commands that a Redis does not take from this user, or from nobody now.
func refusals(ctx context.Context, client redis.UniversalClient, commands ...[]any) (why []string) {
	for _, args := range commands {
		err := client.Do(ctx, args...).Err()
		if err == nil {
			continue
		}
		for _, refused := range []string{"NOPERM", "NOAUTH", "READONLY", "OOM", "MISCONF", "LOADING"} {
			if strings.HasPrefix(err.Error(), refused) {
				why = append(why, err.Error())
			}
		}
	}
	return why
}

// value is one line of INFO.
func value(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return v
		}
	}
	return ""
}

// field is the word that begins with a prefix, without that.
func field(text, prefix string) string {
	for _, word := range strings.Fields(text) {
		if v, ok := strings.CutPrefix(word, prefix); ok {
			return v
		}
	}
	return ""
}

// major is the first number of a version, 0 for none.
func major(version string) int {
	first, _, _ := strings.Cut(filepath.Base(version), ".")
	n, _ := strconv.Atoi(first)
	return n
}
