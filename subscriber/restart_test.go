package subscriber

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync/internal/redistest"
)

// snapshotting starts a Redis as Debian ships it, with snapshots alone, and
// gives a way to kill it.
func snapshotting(t *testing.T, dir string) (client *redis.Client, kill func()) {
	t.Helper()
	redistest.Need(t)
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "3600 1", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	for end := time.Now().Add(10 * time.Second); client.Ping(t.Context()).Err() != nil; time.Sleep(5 * time.Millisecond) { // a poll, bounded
		if time.Now().After(end) {
			t.Fatal("redis-server does not start")
		}
	}
	kill = func() {
		_ = client.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	return client, kill
}

// What Redis acknowledged and forgot is announced as a gap, also to a target
// that was away.
func TestARedisThatForgetsIsAGap(t *testing.T) {
	for _, durable := range []bool{false, true} {
		dir := t.TempDir()
		serve := func(client *redis.Client) (*Subscriber, State) {
			s := New(Config{Redis: client, Keys: keys, Target: "web1", Durable: durable, Log: zerolog.Nop()})
			state, alive, err := s.begin(t.Context(), newLoop(s.cfg, s.queue))
			if err != nil {
				t.Fatal(err)
			}
			_ = alive.Close() // as when it is killed
			return s, state
		}
		client, kill := snapshotting(t, dir)
		s, state := serve(client)
		if state.Gap != "" {
			t.Errorf("a gap at the first start: %s", state.Gap)
		}
		if err := s.queue.save(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		if _, state := serve(client); state.Gap != "" {
			t.Errorf("a gap with the same Redis: %s", state.Gap)
		}
		if err := client.Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		write(t, client, "lost", 5)
		kill()
		client, kill = snapshotting(t, dir)
		write(t, client, "new", 1)
		if _, state := serve(client); (state.Gap != "") == durable {
			t.Errorf("durable %v: the gap is %q", durable, state.Gap)
		}
		kill()
	}
}

// A restart is noticed while the target is served, once.
func TestARestartIsToldOnce(t *testing.T) {
	c := &canned{restart: 5}
	runs := make(chan string, 10)
	bubbled(t, c, func(s *Subscriber, ctx context.Context, _ chan gap) { _ = s.restarts(ctx, "old", runs) }, func(chan gap) {
		time.Sleep(2 * time.Minute) // fake
	})
	if len(runs) != 1 || <-runs != "new" {
		t.Errorf("told %d times", len(runs))
	}
}

// Whoever takes a stream or its group away while nobody serves the target takes
// events along. Nothing shows that once the group is there again.
func TestAGroupThatIsGoneAtAStartIsAGap(t *testing.T) {
	client := startRedis(t)()
	begin := func() (*Subscriber, State) {
		s := serving(client, "web1")
		state, alive, err := s.begin(t.Context(), newLoop(s.cfg, s.queue))
		if err != nil {
			t.Fatal(err)
		}
		_ = alive.Close() // as when it is killed, before it has saved its state
		s.queue.release(t.Context())
		return s, state
	}
	s, state := begin()
	if state.Gap != "" {
		t.Errorf("a gap at the first start: %s", state.Gap)
	}
	if err := s.queue.save(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	s.queue.release(t.Context())
	if _, state = begin(); state.Gap != "" {
		t.Errorf("a gap at the second start: %s", state.Gap)
	}
	for _, words := range [][]any{{"XGROUP", "DESTROY", keys.Events(), "web1"}, {"DEL", keys.Events()}} {
		must(t, client, words...)
		begin()
		s, state := begin() // the first one died
		if state.Gap == "" {
			t.Errorf("%v is no gap", words)
		}
		state.Gap = "" // swept
		if err := s.queue.save(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		s.queue.release(t.Context())
	}
}
