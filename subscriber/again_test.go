package subscriber

import (
	"errors"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// A file that is rewritten during every run holds up neither its events nor a
// sweep for good, and ships once it rests.
func TestAFileThatNeverRestsIsListedAndShipsOnceItDoes(t *testing.T) {
	x := swept()
	x.again, x.drift, x.took = "log.txt", []string{"log.txt"}, 150*time.Millisecond
	inBubble(t, Config{}, x, func(l *loop) {
		l.orders <- "sweep 1"
		after(0)        // it found the drift before the first event
		for range 800 { // its writer closes it more often than a run ends
			give(l, event("1-1", "log.txt"))
			after(100 * time.Millisecond)
		}
		got := x.look()
		if f := got.failed["log.txt"]; f.Why != restless {
			t.Errorf("after 80 s it is listed as %+v", f)
		}
		if n := len(got.acked); n < 700 {
			t.Errorf("%d of 800 events acknowledged", n)
		}
		if s := got.state.Sweep; s.Running || s.Left != 1 {
			t.Errorf("the sweep still waits for it: %+v", s)
		}
		x.order(func() { x.again = "" })
		after(restlessMost + quiet)
		got = x.look()
		if _, still := got.failed["log.txt"]; still || got.state.Health != "ok" {
			t.Errorf("it rests and is still listed: %s", got.state.Health)
		}
	})
}

// What waits for another run's listing is not at fault, however long that takes, and
// says nothing about whether the target takes files.
func TestWhatWaitsForAListingDoesNotFail(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		x.order(func() { x.syncErr = errors.New("no route to host") })
		give(l, event("1-0", "a"))
		after(time.Second)
		x.order(func() { x.waits, x.syncErr = "a", nil })
		after(10 * time.Minute)
		got := x.look()
		if len(got.failed) > 0 || len(got.acked) > 0 || got.state.Health != "failing" {
			t.Errorf("failed %v, acknowledged %v, %s", got.failed, got.acked, got.state.Health)
		}
		x.order(func() { x.waits = "" })
		after(time.Second)
		if got = x.look(); len(got.acked) != 1 || got.state.Health != "ok" {
			t.Errorf("acknowledged %v, %s", got.acked, got.state.Health)
		}
	})
}

// The other end of a run that broke may put an older version there after a newer one
// was delivered: what was delivered meanwhile is shipped once more when that is over.
func TestWhatABrokenRunMayPutThereLateIsShippedOnceMore(t *testing.T) {
	for name, killed := range map[string]bool{"a connection broke": false, "the last process was killed": true} {
		t.Run(name, func(t *testing.T) {
			x := swept()
			if x.broke = !killed; killed {
				x.state.Heartbeat = time.Now()
			}
			inBubble(t, never, x, func(l *loop) {
				give(l, event("1-0", "a"), event("2-0", "b"))
				after(fastsync.LateFor)
				x.order(func() { x.broke = false })
				give(l, event("3-0", "c"))
				after(time.Hour)
				count := map[string]int{}
				for _, r := range x.look().runs {
					for _, p := range r.paths {
						count[p]++
					}
				}
				if count["a"] != 2 || count["b"] != 2 || count["c"] != 1 {
					t.Errorf("shipped %v", count)
				}
			})
		})
	}
}
