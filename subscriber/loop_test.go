package subscriber

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

func TestAnIdleTargetGetsAnEventAtOnce(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		after(time.Minute)
		give(l, event("1-0", "a"), event("2-0", "a"), event("3-0", "b"))
		got := x.look()
		if len(got.runs) != 1 || got.runs[0].at != time.Minute || !slices.Equal(got.runs[0].paths, []string{"a", "b"}) {
			t.Errorf("runs %v, want one of a and b at once", got.runs)
		}
		if !slices.Equal(got.acked, []string{"1-0", "2-0", "3-0"}) {
			t.Errorf("acknowledged %v, want all three events", got.acked)
		}
	})
}

func TestEventsGatherWhileTwoBatchesRun(t *testing.T) {
	x := swept()
	x.took = 10 * time.Second
	inBubble(t, never, x, func(l *loop) {
		for i := range 30 {
			give(l, event(fmt.Sprint(i+1, "-0"), fmt.Sprint(i)))
			after(20 * time.Millisecond)
		}
		if got := x.look(); len(got.runs) != 2 || len(got.runs[0].paths) != 1 || len(got.runs[1].paths) != 1 {
			t.Errorf("runs %v, want one of the first path and one of the second at once", got.runs)
		}
		after(10 * time.Second)
		if got := x.look(); len(got.runs) != 3 || len(got.runs[2].paths) != 28 {
			t.Errorf("runs %v, want a third one of all others", got.runs)
		}
	})
}

func TestABatchHasAMostSize(t *testing.T) {
	x := swept()
	x.took = time.Second
	cfg := never
	cfg.BatchMax = 2
	inBubble(t, cfg, x, func(l *loop) {
		give(l, event("1-0", "a"), event("2-0", "b"), event("3-0", "c"), event("4-0", "d"))
		got := x.look()
		if len(got.runs) != 2 || len(got.runs[0].paths) != 2 || len(got.runs[1].paths) != 2 {
			t.Errorf("runs %v, want two of two paths at once", got.runs)
		}
	})
}

// What a slow target leaves is in the stream, not in memory.
func TestTheLoopHoldsOnlySoMany(t *testing.T) {
	x := swept()
	x.took = time.Hour
	inBubble(t, never, x, func(l *loop) {
		held, lot := 0, 1000
		give := func() bool {
			var events []redis.XMessage
			for i := range lot {
				events = append(events, event(fmt.Sprint(held+i+1, "-0"), fmt.Sprint(held+i)))
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // fake time
			defer cancel()
			l.hand(ctx, events)
			if ctx.Err() != nil {
				return false
			}
			held += lot
			return true
		}
		for held < 2*enough && give() {
			continue
		}
		if held != enough {
			t.Errorf("it took %d events, want %d", held, enough)
		}
		after(time.Hour)
		if !give() {
			t.Error("it takes no more once a batch is done")
		}
	})
}

func TestATargetThatIsDownIsTriedAgainAndNothingIsAcknowledged(t *testing.T) {
	x := swept()
	x.syncErr = &fastsync.RunError{What: "the target is down"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(10 * time.Minute)
		got := x.look()
		tries := len(got.runs)
		if tries < 15 || tries > 40 {
			t.Errorf("%d tries in 10 min, want one each 30 s at the end", tries)
		}
		if len(got.acked) != 0 || got.state.Health != "failing" || got.state.Why != "the target is down" {
			t.Errorf("acknowledged %v, health %s (%s); want none, failing", got.acked, got.state.Health, got.state.Why)
		}
		x.order(func() { x.syncErr = nil })
		after(31 * time.Second)
		got = x.look()
		if !slices.Equal(got.acked, []string{"1-0"}) {
			t.Errorf("acknowledged %v after it was back, want the event", got.acked)
		}
		after(fastsync.Beat)
		got = x.look()
		if got.state.Health != "ok" {
			t.Errorf("health %s after it was back", got.state.Health)
		}
	})
}

func TestARefusedPathIsListedAndTriedAgainWhileOthersGoOn(t *testing.T) {
	x := swept()
	x.refuse = map[string]string{"bad": "permission denied"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "bad"), event("2-0", "good"))
		after(time.Second)
		got := x.look()
		if len(got.acked) != 2 || got.failed["bad"].Why != "permission denied" || len(got.failed) != 1 {
			t.Errorf("acknowledged %v, failed %v; want both, bad with its reason", got.acked, got.failed)
		}
		after(time.Hour)
		got = x.look()
		if n := len(got.runs); n < 7 || n > 16 {
			t.Errorf("%d runs in an hour, want a backoff up to 10 min", n)
		}
		x.order(func() { x.refuse = nil })
		after(time.Hour) // it may be in quarantine by then
		got = x.look()
		if len(got.failed) != 0 || !slices.Equal(got.heald, []string{"bad"}) {
			t.Errorf("failed %v, healed %v; want bad healed", got.failed, got.heald)
		}
	})
}

func TestDirectoryTimesSettleOnceTheTargetIsQuiet(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "d/a"))
		after(time.Second)
		give(l, event("2-0", "d/b"))
		after(quiet - time.Millisecond)
		got := x.look()
		if len(got.settled) != 0 {
			t.Error("times were set while files came")
		}
		after(time.Millisecond)
		got = x.look()
		if len(got.settled) != 1 || len(got.settled[0]) != 2 {
			t.Errorf("settled %v, want d/a and d/b once", got.settled)
		}
		after(time.Hour)
		got = x.look()
		if len(got.settled) != 1 {
			t.Errorf("settled %d times with nothing new", len(got.settled))
		}
	})
}

// Whatever keeps the times from being set for a moment, no batch and no sweep is
// needed to set them after.
func TestDirectoryTimesAreSetOnceTheyCanBe(t *testing.T) {
	x := swept()
	x.settleErr = errors.New("too many open files")
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "d/a"))
		after(time.Minute)
		give(l, event("2-0", "d/b"))
		after(time.Minute)
		x.order(func() { x.settleErr = nil })
		after(transientMost)
		if got := x.look(); len(got.settled) != 1 || len(got.settled[0]) != 2 {
			t.Errorf("settled %v, want d/a and d/b once", got.settled)
		}
	})
}

// What hides a loss from the next start is done only after the state shows it.
func TestAGapIsReportedOnceItIsSaved(t *testing.T) {
	x := &target{}
	inBubble(t, never, x, func(l *loop) {
		after(time.Second)
		x.order(func() { x.saveErr = errors.New("redis is away") })
		saved := make(chan bool)
		go func() { saved <- report(context.Background(), l.gaps, "trimmed") }()
		after(time.Minute)
		select {
		case <-saved:
			t.Error("it counts as saved while redis takes nothing")
		default:
		}
		begun := time.Now()
		x.order(func() { x.saveErr = nil })
		if !<-saved || time.Since(begun) > time.Second {
			t.Errorf("saved after %v", time.Since(begun))
		}
	})
}
