package subscriber

import (
	"testing"
	"time"
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
