package subscriber

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/redistest"
)

var keys = fastsync.NewKeys("media")

// startRedis gives a way to make clients of a real Redis that the test owns.
func startRedis(t *testing.T) (client func() *redis.Client) {
	t.Helper()
	options := redistest.Start(t)
	return func() *redis.Client { return redistest.Client(t, options) }
}

// serving is a Subscriber for a target that no loop runs for.
func serving(client *redis.Client, target string) *Subscriber {
	return New(Config{Redis: client, Keys: keys, Target: target, Log: zerolog.Nop()})
}

// opened is the queue of a target whose group is there.
func opened(t *testing.T, client *redis.Client, target string) *queue {
	t.Helper()
	q := serving(client, target).queue
	if err := q.makeGroup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return q
}

// write adds n events for the paths name0, name1 and so on.
func write(t *testing.T, client *redis.Client, name string, n int) (ids []string) {
	t.Helper()
	pipe := client.Pipeline()
	for i := range n {
		e := fastsync.Event{Change: fastsync.Change{Path: fmt.Sprint(name, i), Scope: fastsync.Entry}}
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.Events(), Values: e.Values()})
	}
	replies, err := pipe.Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range replies {
		ids = append(ids, r.(*redis.StringCmd).Val())
	}
	return ids
}

// must runs one command of the test's own.
func must(t *testing.T, client *redis.Client, words ...any) any {
	t.Helper()
	reply, err := client.Do(t.Context(), words...).Result()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return reply
}

// capTo is what XADD MAXLEN does: it asks nobody who has read what.
func capTo(t *testing.T, client *redis.Client, n int) {
	t.Helper()
	must(t, client, "XTRIM", keys.Events(), "MAXLEN", n)
}

func take(t *testing.T, q *queue, after string) []string {
	t.Helper()
	got, err := q.read(t.Context(), after, anyhow)
	if err != nil {
		t.Fatal(err)
	}
	return paths(got.messages)
}

// anyhow takes a loss as saved.
func anyhow(int64) bool { return true }

func paths(messages []redis.XMessage) (list []string) {
	for _, m := range messages {
		p, _ := m.Values["path"].(string)
		list = append(list, p)
	}
	return list
}

func pending(t *testing.T, client *redis.Client, group string) int64 {
	t.Helper()
	p, err := client.XPending(t.Context(), keys.Events(), group).Result()
	if err != nil {
		t.Fatal(err)
	}
	return p.Count
}

func length(t *testing.T, client *redis.Client, stream string) int64 {
	t.Helper()
	n, err := client.XLen(t.Context(), stream).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually asks again and again, for what another process does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
