package subscriber

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// Two processes that gave one name to two folders would each get a part of the
// events, and both would look well.
func TestANameStandsForOnePair(t *testing.T) {
	client := startRedis(t)()
	named := func(pair string) *queue {
		return New(Config{Redis: client, Keys: keys, Target: "web1", Pair: pair, Log: zerolog.Nop()}).queue
	}
	one, twin, other := named("/www → /one"), named("/www → /one"), named("/www → /two")
	ctx := t.Context()
	if err := errors.Join(one.claim(ctx), one.claim(ctx), twin.claim(ctx)); err != nil {
		t.Fatal("the same pair:", err)
	}
	if err := other.claim(ctx); !errors.Is(err, errTaken) || !strings.Contains(err.Error(), "/one") {
		t.Errorf("another pair: %v", err)
	}
	other.release(ctx) // is not its own
	if err := other.claim(ctx); !errors.Is(err, errTaken) {
		t.Errorf("after a release by somebody else: %v", err)
	}
	if left := client.TTL(ctx, keys.Claim("web1")).Val(); left <= 0 || left > claimed {
		t.Errorf("it is held for %v", left)
	}
	// A heartbeat renews it, also after Redis has lost it.
	client.Expire(ctx, keys.Claim("web1"), time.Second)
	if err := one.save(ctx, State{}); err != nil || client.TTL(ctx, keys.Claim("web1")).Val() <= time.Second {
		t.Errorf("not renewed: %v", err)
	}
	client.Del(ctx, keys.Claim("web1"))
	if err := one.save(ctx, State{}); err != nil || other.claim(ctx) == nil {
		t.Errorf("not claimed again: %v", err)
	}
	one.release(ctx)
	if err := other.claim(ctx); err != nil {
		t.Errorf("after its release: %v", err)
	}
	if err := one.save(ctx, State{}); !errors.Is(err, errTaken) {
		t.Errorf("a heartbeat of who has lost it: %v", err)
	}
}

// Another root or destination than before is a gap, the same is none, nor is a
// state from before there were pairs.
func TestAnotherPairIsAGap(t *testing.T) {
	for before, gap := range map[string]bool{"": false, "/www → /one": false, "/www → /two": true, "/srv → /one": true} {
		s := New(Config{Keys: keys, Target: "web1", Destination: "one", Pair: "/www → /one", Log: zerolog.Nop()})
		state := State{Pair: before}
		s.introduce(&state)
		if (state.Gap != "") != gap || state.Pair != "/www → /one" {
			t.Errorf("before %q: %+v", before, state)
		}
	}
}

// What a batch had sent when it was stopped goes from the target, unless the
// target hangs: the end must come soon.
func TestTheEndTidiesWhatItCutShort(t *testing.T) {
	for took, tidied := range map[time.Duration]int{5500 * time.Millisecond: 1, 8 * time.Second: 0} {
		x := swept()
		x.took, x.syncErr = took, errors.New("stopped")
		inBubble(t, never, x, func(l *loop) {
			give(l, event("1-0", "big"))
			synctest.Wait()
		})
		if len(x.tidied) != tidied || tidied == 1 && x.tidied[0].Path != "big" {
			t.Errorf("a run that took %v: tidied %v", took, x.tidied)
		}
		if x.state.Why != "" {
			t.Errorf("the end is told as a fault: %s", x.state.Why)
		}
	}
}
