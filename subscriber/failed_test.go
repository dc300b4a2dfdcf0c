package subscriber

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// A path that fails in two scopes is listed by the wider one until that is
// delivered, so that a restart forgets neither.
func TestAPathThatFailsInTwoScopesIsListedByTheWider(t *testing.T) {
	x := swept()
	x.refuse = map[string]string{"d": "permission denied"}
	inBubble(t, never, x, func(l *loop) {
		tree := event("1-0", "d")
		tree.Values["scope"] = "tree"
		give(l, tree)
		after(time.Second)
		give(l, event("2-0", "d"))
		after(time.Second)
		if f := x.look().failed["d"]; f.Scope != fastsync.Tree {
			t.Errorf("listed as %+v, want the tree", f)
		}
		x.order(func() { x.refuse = nil })
		after(time.Hour)
		if got := x.look(); len(got.failed) != 0 || got.state.Health != "ok" {
			t.Errorf("still listed: %v", got.failed)
		}
	})
}

// What was delivered with all below it needs no further try of less, nor an
// operator for a deletion that a wider one has made.
func TestAWiderDeliveryHealsWhatFailedInLess(t *testing.T) {
	x := swept()
	x.refuse = map[string]string{"d": "permission denied"}
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "d"))
		after(time.Second)
		x.order(func() { x.refuse = nil })
		tree := event("2-0", "d")
		tree.Values["scope"] = "tree"
		give(l, tree)
		after(time.Second)
		if got := x.look(); len(got.failed) != 0 || got.state.Failed != 0 || got.state.Health != "ok" {
			t.Errorf("still listed: %v, health %s", got.failed, got.state.Health)
		}
	})
}

// Memory is bounded also where nothing can be shipped, which is told.
func TestFailingPathsAreBounded(t *testing.T) {
	x := swept()
	x.refuseAll = "permission denied"
	inBubble(t, never, x, func(l *loop) {
		for i := 0; i < maxFailed+5000; i += 1000 {
			var page []redis.XMessage
			for j := range 1000 {
				page = append(page, event(fmt.Sprint(i+j, "-0"), fmt.Sprint("f", i+j)))
			}
			give(l, page...)
			after(time.Millisecond)
		}
		after(time.Second)
		got := x.look()
		if got.state.Failed != maxFailed || got.state.Gap == "" || len(got.acked) != maxFailed+5000 {
			t.Errorf("%d listed, %d acknowledged, gap %q", got.state.Failed, len(got.acked), got.state.Gap)
		}
	})
}

// The minute in which a file never rests is one of runs, not of waiting for a target.
func TestAnOutageIsNoRestlessness(t *testing.T) {
	x := swept()
	x.syncErr = errors.New("down")
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(2 * time.Minute)
		x.order(func() { x.syncErr, x.again = nil, "a" })
		after(transientMost + 10*time.Second)
		if got := x.look(); len(got.failed) != 0 {
			t.Errorf("listed after seconds of runs: %v", got.failed)
		}
		x.order(func() { x.again = "" })
		after(time.Minute)
	})
}
