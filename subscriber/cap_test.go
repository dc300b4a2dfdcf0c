package subscriber

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// sum counts what a reader gave, until the event with the path end.
type sum struct {
	read, lost int64
	end        bool
}

func (s *sum) gap(t *testing.T, g gap) {
	var n int64
	if _, err := fmt.Sscanf(g.reason, "%d events were trimmed unread", &n); err != nil {
		t.Fatalf("a gap that is no trim: %s", g.reason)
	}
	s.lost += n
	close(g.saved)
}

func (s *sum) events(messages []redis.XMessage) {
	s.read += int64(len(messages))
	s.end = messages[len(messages)-1].Values["path"] == "end"
}

// burst writes n events under a cap of 30, and the path end last of all.
func burst(t *testing.T, client *redis.Client, n int, last string) {
	t.Helper()
	pipe := client.Pipeline()
	for i := range n {
		p := "f"
		if i == n-1 {
			p = last
		}
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.Events(), MaxLen: 30, Values: []any{"path", p}})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Bursts, reads, looks of the guard and the cap fall as they may: what was
// written is read or counted as lost, and never both.
func TestEveryEventIsReadOrCountedAsLostOnce(t *testing.T) {
	clients := startRedis(t)
	client := clients()
	opened(t, client, "web1")
	r := reading(t, clients(), "web1")
	var got sum
	written := int64(0)
	for range 300 {
		n := 1 + rand.IntN(60)
		burst(t, client, n, "f")
		written += int64(n)
		select {
		case messages := <-r.events:
			got.events(messages)
		case gap := <-r.gaps:
			got.gap(t, gap)
		default:
		}
		if n%8 != 0 {
			continue
		}
		looked := make(chan error)
		go func() {
			_, err := r.queue.overtaken(t.Context(), unread(t.Context(), r.gaps))
			looked <- err
		}()
		for on := true; on; {
			select {
			case messages := <-r.events:
				got.events(messages)
			case gap := <-r.gaps:
				got.gap(t, gap)
			case err := <-looked:
				if on = false; err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	burst(t, client, 1, "end")
	for limit := time.After(10 * time.Second); !got.end; {
		select {
		case messages := <-r.events:
			got.events(messages)
		case gap := <-r.gaps:
			got.gap(t, gap)
		case <-limit:
			t.Fatal("the last event was not read within 10 s")
		}
	}
	if got.lost == 0 || got.read+got.lost != written+1 {
		t.Errorf("%d read and %d lost of %d written", got.read, got.lost, written+1)
	}
}
