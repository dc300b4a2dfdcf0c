package subscriber

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/redistest"
)

// named is the queue of a process that gives a target's name to a pair.
func named(client *redis.Client, pair string) *queue {
	return New(Config{Redis: client, Keys: keys, Target: "web1", Pair: pair, Log: zerolog.Nop()}).queue
}

// served makes the target this process's, with what shows that it lives.
func served(t *testing.T, q *queue) *redis.PubSub {
	t.Helper()
	claim, err := q.vacant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alive, err := q.announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = alive.Close() })
	if err := q.hold(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	return alive
}

// Of two processes with one pair, both would ship a file, and the older version
// might come last; with two pairs, each would get a part of the events and both
// would look well.
func TestOneProcessServesATarget(t *testing.T) {
	client, ctx := startRedis(t)(), t.Context()
	one, twin, other := named(client, "/www → /one"), named(client, "/www → /one"), named(client, "/www → /two")
	served(t, one)
	if _, err := twin.vacant(ctx); !errors.Is(err, ErrServed) || errors.Is(err, errTaken) || !strings.Contains(err.Error(), one.holder) {
		t.Errorf("the same pair: %v", err)
	}
	if _, err := other.vacant(ctx); !errors.Is(err, errTaken) || !strings.Contains(err.Error(), "/one") {
		t.Errorf("another pair: %v", err)
	}
	twin.release(ctx) // is not its own
	if _, err := other.vacant(ctx); !errors.Is(err, errTaken) {
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
	if err := one.save(ctx, State{Gap: "one's"}); err != nil || twin.hold(ctx, "") == nil {
		t.Errorf("not claimed again: %v", err)
	}
	one.release(ctx)
	served(t, twin)
	if err := twin.save(ctx, State{Gap: "twin's"}); err != nil {
		t.Error(err)
	}
	// Who has lost it learns that before it writes.
	if err := one.save(ctx, State{Gap: "one's"}); !errors.Is(err, ErrServed) {
		t.Errorf("a heartbeat of who has lost it: %v", err)
	}
	if text := client.HGet(ctx, keys.Targets(), "web1").Val(); !strings.Contains(text, "twin's") {
		t.Errorf("the state is %s", text)
	}
}

// A connection that breaks just when it would say what is to be heard must not leave
// a process that hears no order, or that others take for dead.
func TestOrdersAreHeardAlthoughConnectionsBreak(t *testing.T) {
	options := redistest.Start(t)
	client, ctx := redistest.Client(t, options), t.Context()
	for broken, word := range map[string]string{"the first": keys.Alive("web1", ""), "the orders'": keys.Control("web1") + "\r\n"} {
		t.Run(broken, func(t *testing.T) {
			s := serving(redistest.Client(t, redistest.Cut(options, word, 1)), "web1")
			hears := func(channel string) bool { return client.PubSubNumSub(ctx, channel).Val()[channel] == 1 }
			alive, err := s.queue.announce(ctx)
			for ; err != nil; alive, err = s.queue.announce(ctx) {
				if ctx.Err() != nil {
					t.Fatal(err)
				}
			}
			listening, stop := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- s.listen(listening, alive, make(chan string, 100)) }()
			for _, channel := range []string{keys.Alive("web1", s.queue.holder), keys.Control("web1")} {
				for end := time.Now().Add(10 * time.Second); !hears(channel); time.Sleep(time.Millisecond) { // a poll, bounded
					if time.Now().After(end) {
						t.Fatalf("nobody hears %s", channel)
					}
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// Nobody waits for the end of a dead process's claim, and nobody takes it from one
// that lives.
func TestTheClaimOfADeadProcessIsTakenOver(t *testing.T) {
	connect, ctx := startRedis(t), t.Context()
	client := connect()
	one, twin, third := named(connect(), "/www → /one"), named(client, "/www → /one"), named(client, "/www → /one")
	alive := served(t, one)
	if _, err := twin.vacant(ctx); !errors.Is(err, ErrServed) {
		t.Fatal("while it lives:", err)
	}

	// A connection that is cut is soon back.
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		for client.PubSubNumSub(ctx, keys.Alive("web1", one.holder)).Val()[keys.Alive("web1", one.holder)] > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(twice / 4)
		alive = one.redis.Subscribe(ctx, keys.Alive("web1", one.holder))
		_, _ = alive.Receive(ctx)
	}()
	_ = alive.Close()
	if _, err := twin.vacant(ctx); !errors.Is(err, ErrServed) {
		t.Error("after a cut:", err)
	}
	<-cut

	_ = alive.Close()
	eventually(t, "redis knows that it is gone", func() bool { return twin.gone(ctx, one.mine()) })
	a, errA := twin.vacant(ctx)
	b, errB := third.vacant(ctx)
	if errA != nil || errB != nil || a != one.mine() || b != a {
		t.Fatalf("once it is gone: %q %v, %q %v", a, errA, b, errB)
	}
	if err := twin.hold(ctx, a); err != nil {
		t.Error("the first to take it:", err)
	}
	if err := third.hold(ctx, b); !errors.Is(err, ErrServed) {
		t.Error("the second:", err)
	}
	if err := one.save(ctx, State{}); !errors.Is(err, ErrServed) {
		t.Error("the one from which it was taken:", err)
	}
}

// A process that may not subscribe serves its target all the same; that nobody can
// see it is no sign that it is dead.
func TestWhoCannotBeSeenIsNotTakenForDead(t *testing.T) {
	connect, ctx := startRedis(t), t.Context()
	client := connect()
	one, twin := named(connect(), "/www → /one"), named(client, "/www → /one")
	must(t, client, "ACL", "SETUSER", "default", "-subscribe")
	alive := served(t, one)
	_ = alive.Close()
	if _, err := twin.vacant(ctx); !errors.Is(err, ErrServed) {
		t.Error("it is taken over:", err)
	}
	if err := one.save(ctx, State{}); err != nil {
		t.Error("it does not know its claim:", err)
	}
}

// Who was stopped for long takes no event away from the one that serves the target now.
func TestWhoWasStoppedReadsNothing(t *testing.T) {
	connect := startRedis(t)
	client := connect()
	opened(t, client, "web1")
	one, twin := named(connect(), "/www → /one"), named(client, "/www → /one")
	served(t, one)
	long := time.Now().Add(-claimed - time.Second)
	one.held.Store(&long)
	must(t, client, "DEL", keys.Claim("web1"))
	served(t, twin)
	write(t, client, "a", 1)
	s := &Subscriber{cfg: Config{Log: zerolog.Nop()}, queue: one}
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_ = s.read(ctx, newLoop(s.cfg, one))
	if n := pending(t, client, "web1"); n != 0 {
		t.Errorf("it took %d events", n)
	}
}

// shipping is a Syncer whose runs last until they are let go.
type shipping struct {
	target
	began, end chan struct{}
}

func (x *shipping) Sync(context.Context, fastsync.Lane, []fastsync.Change) (fastsync.Outcome, error) {
	x.began <- struct{}{}
	<-x.end
	return fastsync.Outcome{}, nil
}

// Who ends has the target until its last batch is done: another one may not begin
// beside it.
func TestNobodyTakesOverBesideTheLastBatch(t *testing.T) {
	connect := startRedis(t)
	client := connect()
	x := &shipping{began: make(chan struct{}), end: make(chan struct{})}
	one := New(Config{Redis: connect(), Keys: keys, Target: "web1", Pair: "/www → /one", SweepEvery: -1, Syncer: x, Log: zerolog.Nop()})
	write(t, client, "a", 1)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- one.Run(ctx) }()
	<-x.began
	stop()
	time.Sleep(100 * time.Millisecond) // for what would end too early
	twin := named(client, "/www → /one")
	if _, err := twin.vacant(t.Context()); !errors.Is(err, ErrServed) {
		t.Error("while the last batch runs:", err)
	}
	close(x.end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if claim, err := twin.vacant(t.Context()); claim != "" || err != nil {
		t.Errorf("after it: %q, %v", claim, err)
	}
}

// What a sweep found is the other one's sweep's, and what a brake holds an operator's.
func TestDriftIsNotHandedOver(t *testing.T) {
	l := newLoop(Config{Log: zerolog.Nop()}, swept())
	for p, it := range map[string]*item{
		"drift": {sources: []source{{}}}, "held": {sources: []source{{id: "1-0"}}, held: true},
		"event": {sources: []source{{id: "2-0"}}}, "once more": {},
	} {
		it.change = fastsync.Change{Path: p, Scope: fastsync.Entry}
		l.bulk.add(it)
	}
	var paths []string
	for _, change := range l.waiting() {
		paths = append(paths, change.Path)
	}
	if slices.Sort(paths); !slices.Equal(paths, []string{"event", "once more"}) {
		t.Errorf("handed over: %v", paths)
	}
}

// What a process has in hand when another one has its target is that one's to ship
// again: only so is the newest the last. None of it is recorded as done.
func TestWhatIsInHandIsHandedOver(t *testing.T) {
	x := swept()
	x.took, x.tooLarge = 20*time.Second, "film"
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"), event("2-0", "film"))
		after(time.Second)
		give(l, event("3-0", "a"), event("4-0", "b"), event("5-0", "c"), event("6-0", "d"))
		x.order(func() { x.saveErr = fmt.Errorf("target web1 %w: twin", ErrServed) })
		after(time.Minute)
		got := x.look()
		handed := map[string]bool{}
		for _, change := range got.handed {
			handed[change.Path] = true
		}
		if want := map[string]bool{"a": true, "b": true, "c": true, "d": true, "film": true}; !maps.Equal(handed, want) {
			t.Errorf("handed over %v", got.handed)
		}
		if len(got.acked) > 0 || got.state.LastDelivery != (time.Time{}) {
			t.Errorf("recorded %v, %+v", got.acked, got.state)
		}
		if n := len(got.runs); n == 0 || got.runs[n-1].at > 15*time.Second {
			t.Errorf("it went on to ship: %+v", got.runs)
		}
	})
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

// Who was away from Redis for so long that another process may have the target ships
// nothing and records nothing until it knows.
func TestWhoMayHaveLostTheTargetShipsAndRecordsNothing(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		x.order(func() { x.away, x.saveErr = true, errors.New("redis is away") })
		give(l, event("1-0", "a"))
		after(time.Minute)
		if got := x.look(); len(got.runs) > 0 {
			t.Errorf("shipped %v", got.runs)
		}
		x.order(func() { x.away, x.saveErr = false, nil })
		after(2 * time.Second)
		if got := x.look(); len(got.acked) != 1 {
			t.Errorf("redis is back and the target is still its own: acknowledged %v", got.acked)
		}
	})

	client, ctx := startRedis(t)(), t.Context()
	one, twin := named(client, "/www → /one"), named(client, "/www → /one")
	served(t, one)
	long := time.Now().Add(-2 * claimed)
	one.held.Store(&long)
	client.Del(ctx, keys.Claim("web1")) // has ended
	served(t, twin)
	if err := one.fail(ctx, map[string]failedPath{"a": {}}); !errors.Is(err, ErrServed) {
		t.Errorf("a failed path was listed: %v", err)
	}
	if err := one.ack(ctx, []string{"1-0"}, []delivery{{path: "a"}}); !errors.Is(err, ErrServed) || length(t, client, keys.Deliveries()) > 0 {
		t.Errorf("a delivery was told: %v", err)
	}
}
