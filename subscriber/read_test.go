package subscriber

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// reader is Subscriber.read with the test in the place of the loop.
type reader struct {
	t      *testing.T
	events chan []redis.XMessage
	gaps   chan gap
	queue  *queue
}

// reading runs read on a client of its own, whose end also ends a blocked read.
func reading(t *testing.T, client *redis.Client, target string) *reader {
	return readingOf(t, client, serving(client, target))
}

func readingOf(t *testing.T, client *redis.Client, s *Subscriber) *reader {
	r := &reader{t: t, events: make(chan []redis.XMessage), gaps: make(chan gap), queue: s.queue}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.read(ctx, &loop{entries: r.events, gaps: r.gaps}) }()
	t.Cleanup(func() { cancel(); _ = client.Close(); <-ended })
	return r
}

// want takes the next thing that read sends, and wants these paths.
func (r *reader) want(list ...string) {
	r.t.Helper()
	for len(list) > 0 {
		select {
		case messages := <-r.events:
			got := paths(messages)
			if len(got) > len(list) || !slices.Equal(got, list[:len(got)]) {
				r.t.Fatalf("read %v, want %v", got, list)
			}
			list = list[len(got):]
		case gap := <-r.gaps:
			r.t.Fatalf("a gap before %v: %s", list, gap.reason)
		case <-time.After(10 * time.Second):
			r.t.Fatalf("not within 10 s: %v", list)
		}
	}
}

// wantGap takes the next thing that read sends, and wants a gap with these words.
func (r *reader) wantGap(words string) {
	r.t.Helper()
	select {
	case messages := <-r.events:
		r.t.Fatalf("read %v, want a gap", paths(messages))
	case gap := <-r.gaps:
		close(gap.saved)
		if !strings.Contains(gap.reason, words) {
			r.t.Fatalf("the gap is %q, want %q", gap.reason, words)
		}
	case <-time.After(10 * time.Second):
		r.t.Fatalf("not within 10 s: a gap %q", words)
	}
}

// blocked waits until a read sits in Redis.
func blocked(t *testing.T, client *redis.Client) {
	t.Helper()
	eventually(t, "a read blocks", func() bool {
		return strings.Contains(must(t, client, "INFO", "clients").(string), "blocked_clients:1")
	})
}

func TestAProcessReadsItsOwnUnfinishedEventsFirst(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	q := opened(t, client, "web1")
	ids := write(t, client, "old", 3)
	take(t, q, ">")
	if err := q.ack(t.Context(), ids[1:2], nil); err != nil {
		t.Fatal(err)
	}
	write(t, client, "new", 1)

	r := reading(t, clients(), "web1")
	r.want("old0", "old2", "new0")
	write(t, client, "newer", 1)
	r.want("newer0")
}

func TestUnfinishedEventsOfManyPagesAllComeBack(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	q := opened(t, client, "web1")
	write(t, client, "f", page+1)
	all := append(take(t, q, ">"), take(t, q, ">")...)
	reading(t, clients(), "web1").want(all...)
}

func TestUnfinishedEventsWithoutABodyAreAGap(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	q := opened(t, client, "web1")
	write(t, client, "old", 3)
	take(t, q, ">")
	capTo(t, client, 1)

	r := reading(t, clients(), "web1")
	r.wantGap("2 events were trimmed before they were delivered")
	r.want("old2")
	if n := pending(t, client, "web1"); n != 1 {
		t.Errorf("%d events are pending, want the one with a body", n)
	}
}

func TestARestartSeesWhatWasTrimmedBeforeIt(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	q := opened(t, client, "web1")
	write(t, client, "old", 3)
	take(t, q, ">")
	write(t, client, "f", 10)
	capTo(t, client, 4)

	r := reading(t, clients(), "web1")
	r.wantGap("6 events were trimmed unread")
	r.wantGap("3 events were trimmed before they were delivered")
	r.want("f6", "f7", "f8", "f9")
}

func TestAReadThatIsWokenIsNoGap(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	opened(t, client, "web1")
	r := reading(t, clients(), "web1")
	blocked(t, client)
	woken := int64(0)
	for _, line := range strings.Split(must(t, client, "CLIENT", "LIST", "TYPE", "normal").(string), "\n") {
		if id, rest, _ := strings.Cut(line, " "); strings.Contains(rest, "cmd=xreadgroup") {
			woken += must(t, client, "CLIENT", "UNBLOCK", strings.TrimPrefix(id, "id="), "ERROR").(int64) // as a failover does
		}
	}
	if woken != 1 {
		t.Fatalf("%d reads were woken", woken)
	}
	write(t, client, "new", 1)
	r.want("new0")
}

func TestLostDataIsAGapAndReadingGoesOn(t *testing.T) {
	for name, lose := range map[string][]any{
		"everything flushed": {"FLUSHALL"},
		"stream deleted":     {"DEL", keys.Events()},
		"group destroyed":    {"XGROUP", "DESTROY", keys.Events(), "web1"},
	} {
		t.Run(name, func(t *testing.T) {
			clients := startRedis(t)
			client := clients()
			opened(t, client, "web1")
			r := reading(t, clients(), "web1")
			blocked(t, client)
			must(t, client, lose...)
			r.wantGap("the consumer group was gone")
			write(t, client, "new", 2)
			r.want("new0", "new1")
		})
	}
}

func TestATrimBetweenTwoReadsIsSeen(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	q := opened(t, client, "web1")
	write(t, client, "seen", 3)
	r := reading(t, clients(), "web1")
	eventually(t, "the first read is done", func() bool { return pending(t, client, "web1") == 3 })
	write(t, client, "f", 10) // while the loop takes nothing
	capTo(t, client, 4)

	r.want("seen0", "seen1", "seen2")
	r.wantGap("6 events were trimmed unread")
	r.want("f6", "f7", "f8", "f9")
	if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != 0 {
		t.Errorf("%d of them were counted again (%v)", lost, err)
	}
	capTo(t, client, 1) // of what was read: no gap
	write(t, client, "g", 1)
	r.want("g0")
}

func TestABurstBeyondTheCapIsSeenByABlockedRead(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	opened(t, client, "web1")
	write(t, client, "seen", 3)
	r := reading(t, clients(), "web1")
	r.want("seen0", "seen1", "seen2")
	blocked(t, client)
	_, err := client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		for _, p := range []string{"a", "b", "c", "d", "e"} {
			tx.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.Events(), MaxLen: 4, Values: []any{"path", p}})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.wantGap("1 events were trimmed unread")
	r.want("b", "c", "d", "e")
}

// A reply that is lost on its way leaves the same behind as a second reader of
// the same name: events that are given out and that nobody works on.
func TestEventsWhoseReplyWasLostAreReadAgain(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	q := opened(t, client, "web1")
	write(t, client, "seen", 1)
	r := reading(t, clients(), "web1")
	eventually(t, "the first read is done", func() bool { return pending(t, client, "web1") == 1 })
	write(t, client, "lost", 2)
	take(t, q, ">")
	write(t, client, "new", 1)
	r.want("seen0", "lost0", "lost1", "new0")
	write(t, client, "newer", 1)
	r.want("newer0")
}

// The process that served the target before was stopped, and its read still waits in
// Redis: that gets some of the events. They are this one's, also where it has read
// later ones since.
func TestWhatTheLastProcessHasReadLateIsTakenOver(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	opened(t, client, "web1")
	own := clients()
	s := serving(own, "web1")
	s.queue.patience = 300 * time.Millisecond
	r := readingOf(t, own, s)
	blocked(t, client)
	_, err := client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error { // nobody who waits is served before its end
		tx.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.Events(), Values: []any{"path", "twins", "scope", "entry", "origin", "watch", "at", "1"}})
		tx.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "web1", Consumer: consumer, Streams: []string{keys.Events(), ">"}, Block: -1})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, client, "later", 1)
	r.want("later0", "twins", "later0")
}

// What the loop has been handed and not yet counted is nobody else's.
func TestWhatIsOnItsWayToTheLoopIsNotTakenOver(t *testing.T) {
	connect := startRedis(t)
	client := connect()
	s := serving(connect(), "t")
	s.queue.patience = 0
	opened(t, client, "t")
	r := readingOf(t, s.queue.redis.(*redis.Client), s)
	for _, p := range []string{"a", "b", "c"} {
		write(t, client, p, 1)
		r.want(p + "0")
	}
}
