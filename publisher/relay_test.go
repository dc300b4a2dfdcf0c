package publisher

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startRedis gives a client of a real Redis that the test owns.
func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	return redistest.Client(t, redistest.Start(t))
}

// sink is a Publisher in memory that can refuse to take anything.
type sink struct {
	mu     sync.Mutex
	events []fastsync.Event
	block  bool
}

func (s *sink) Publish(ctx context.Context, events ...fastsync.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.block && ctx.Done() != nil {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		if s.block {
			return ctx.Err()
		}
	}
	s.events = append(s.events, events...)
	return nil
}

func (s *sink) set(block bool) { s.mu.Lock(); s.block = block; s.mu.Unlock() }

func (s *sink) paths() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		list = append(list, e.Path)
	}
	return list
}

// relaying runs a relay until the test or its stop ends it.
func relaying(t *testing.T, client *redis.Client, to *sink, source string) (gaps chan time.Time, r *Relay, stop func()) {
	t.Helper()
	gaps = make(chan time.Time, 100)
	r = NewRelay(RelayConfig{
		Redis: client, Channel: "new_files", Source: source, Publisher: to, Log: zerolog.Nop(),
		Gap: func(since time.Time) { gaps <- since },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	eventually(t, "the relay listens", func() bool {
		n, err := client.PubSubNumSub(context.Background(), "new_files").Result()
		return err == nil && n["new_files"] == 1
	})
	<-gaps // nobody heard what was published before
	return gaps, r, stop
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) { // a poll, bounded
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func say(t *testing.T, client *redis.Client, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := client.Publish(context.Background(), "new_files", m).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a broken connection could not ask for is asked for anew.
func TestTheRelayHearsAlthoughItsFirstConnectionsBreak(t *testing.T) {
	client, to := redistest.Client(t, redistest.Cut(redistest.Start(t), "subscribe", 3)), &sink{}
	relaying(t, client, to, t.TempDir())
	say(t, client, "a")
	eventually(t, "a path", func() bool { return len(to.paths()) == 1 })
}

func TestEveryMessageBecomesEventsAndARefusedOneHarmsNoOther(t *testing.T) {
	client, to, root := startRedis(t), &sink{}, t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, "dir"), 0o755), os.Symlink("/etc", filepath.Join(root, "link"))); err != nil {
		t.Fatal(err)
	}
	_, r, _ := relaying(t, client, to, root)
	say(t, client, "a", "", "../x", "link/passwd", `{"paths":["b","../c","dir"],"ref":"r"}`, root+"/d")
	eventually(t, "four paths", func() bool { return len(to.paths()) == 4 })
	for i, want := range []fastsync.Event{
		{Change: fastsync.Change{Path: "a", Scope: fastsync.Entry}},
		{Change: fastsync.Change{Path: "b", Scope: fastsync.Entry}, Ref: "r"},
		{Change: fastsync.Change{Path: "dir", Scope: fastsync.Tree}, Ref: "r"},
		{Change: fastsync.Change{Path: "d", Scope: fastsync.Entry}},
	} {
		if got := to.events[i]; got.Change != want.Change || got.Ref != want.Ref || got.Origin != fastsync.CMS {
			t.Errorf("event %d is %+v, want %+v", i, got, want)
		}
	}
	if r.Relayed() != 4 || r.Refused() != 4 {
		t.Errorf("relayed %d, refused %d; want 4 paths each", r.Relayed(), r.Refused())
	}
}

func TestALostSubscriptionIsAGapAndHeals(t *testing.T) {
	client, to := startRedis(t), &sink{}
	gaps, _, _ := relaying(t, client, to, t.TempDir())
	listened := time.Now()
	say(t, client, "before") // tells nothing of what was published before it
	eventually(t, "a message", func() bool { return len(to.paths()) == 1 })
	if n, err := client.ClientKillByFilter(context.Background(), "TYPE", "pubsub").Result(); err != nil || n != 1 {
		t.Fatalf("killed %d connections: %v", n, err)
	}
	if since := <-gaps; !since.Before(listened.Add(-margin)) {
		t.Errorf("the gap begins at %s; after %s the connection was never proved", since, listened)
	}
	say(t, client, "after")
	eventually(t, "the next message", func() bool { return len(to.paths()) == 2 })
}

// What answers tell, in silence and amid messages: all that was published before they
// were asked for was heard.
func TestAnswersTellUpToWhenAllWasHeard(t *testing.T) {
	client := startRedis(t)
	r := NewRelay(RelayConfig{Redis: client, Log: zerolog.Nop()})
	r.quiet = 200 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	begun := time.Now()
	ps := client.Subscribe(ctx, "new_files")
	received, failed := make(chan said), make(chan error, 1)
	go r.receive(ctx, hearing{ps, begun}, received, failed)
	defer func() { cancel(); _ = ps.Close(); <-failed }()
	first := <-received
	if _, ok := first.what.(*redis.Subscription); !ok || !first.good.Equal(begun) {
		t.Fatalf("first it said %v, good until %s", first.what, first.good)
	}
	good := first.good
	for range 2 {
		got := <-received
		if _, ok := got.what.(*redis.Pong); !ok || got.good.Before(good.Add(r.quiet)) || got.good.After(time.Now()) {
			t.Fatalf("in silence it said %v, good until %s", got.what, got.good)
		}
		good = got.good
	}
	for end := time.Now().Add(10 * time.Second); ; {
		say(t, client, "x")
		got := <-received
		if _, ok := got.what.(*redis.Message); ok && got.good.After(good) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("messages keep it from asking")
		}
	}
}

func TestAPublisherThatIsStuckNeverStopsTheRelayFromReceiving(t *testing.T) {
	client, to := startRedis(t), &sink{block: true}
	gaps, r, _ := relaying(t, client, to, t.TempDir())
	begun, ctx := time.Now(), context.Background()
	pipe := client.Pipeline()
	for range maxHeld + 10 {
		pipe.Publish(ctx, "new_files", "x")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all received", func() bool { return r.Relayed() == maxHeld+10 })
	select {
	case since := <-gaps: // what is beyond the bound is looked for instead
		if since.After(begun) {
			t.Errorf("the gap begins at %s, the oldest that was dropped came after %s", since, begun)
		}
	case <-time.After(10 * time.Second):
		t.Error("more than the bound was held without a gap")
	}
}

func TestWhatWasReceivedReachesRedisAlsoAtTheEnd(t *testing.T) {
	client, to := startRedis(t), &sink{block: true}
	_, r, stop := relaying(t, client, to, t.TempDir())
	say(t, client, "first", "second", "third")
	eventually(t, "three received", func() bool { return r.Relayed() == 3 })
	to.set(false)
	stop()
	if got := to.paths(); len(got) != 3 || got[0] != "first" {
		t.Errorf("published %q, want all three in their order", got)
	}
}

func TestARefusedMessageCostsOneBoundedEscapedLineThatShowsIt(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("é", 2000)
	for _, tt := range []struct{ text, said string }{
		{"/elsewhere", "said=/elsewhere\n"},
		{"link/passwd", "said=link/passwd\n"},
		{"../a\nb\x1b[31m", `said="../a\nb\x1b[31m"` + "\n"},
		{"a\xff/../b", `said="a�/../b"` + "\n"},
		{"{", "said={\n"},
		{"/" + long, `said="/` + long[:198] + `…"` + "\n"},
		{`{"scope":"` + long + `"}`, `said="{\"scope\":\"`},
		{`{"paths":["` + strings.Repeat(`../x","link/y","`, 200) + `good"]}`, `and 397 more`},
	} {
		var log bytes.Buffer
		console := zerolog.New(zerolog.ConsoleWriter{Out: &log, NoColor: true, PartsOrder: []string{"level", "message"}})
		NewRelay(RelayConfig{Source: root, Log: console}).read(tt.text)
		line := log.String()
		if strings.Count(line, "\n") != 1 || len(line) > 2000 || !strings.HasPrefix(line, "WRN refused ") || !strings.Contains(line, tt.said) {
			t.Errorf("%.40q… costs the line %.2000q, want one with %q", tt.text, line, tt.said)
		}
	}
}
