package subscriber

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// paths are those of the runs of one lane.
func (s seen) paths(on fastsync.Lane) (all []string) {
	for _, r := range s.runs {
		if r.lane == on {
			all = append(all, r.paths...)
		}
	}
	return all
}

func TestDriftDelaysNoEvent(t *testing.T) {
	x := swept()
	x.state.Sweep.Finished = time.Time{}
	x.drift, x.large = []string{"archive/1", "archive/2"}, time.Hour
	inBubble(t, never, x, func(l *loop) {
		after(time.Minute)
		for i := range 5 {
			give(l, event(fmt.Sprint(i+1, "-0"), fmt.Sprint("photo", i)))
		}
		got := x.look()
		if !slices.Equal(got.paths(fastsync.Bulk), []string{"archive/1", "archive/2"}) || len(got.acked) != 5 {
			t.Errorf("bulk runs of %v, acknowledged %v; want the drift there and all five events done beside it", got.paths(fastsync.Bulk), got.acked)
		}
	})
}

// What a catch-up finds to be gone is told of directory by directory, thousands
// after an overflow.
func TestListingsOfACatchUpDelayNoEvent(t *testing.T) {
	x := swept()
	x.large = time.Hour
	inBubble(t, never, x, func(l *loop) {
		listing := event("1-0", "archive")
		listing.Values["scope"], listing.Values["origin"] = "listing", "catchup"
		give(l, listing, event("2-0", "photo"))
		after(time.Minute)
		got := x.look()
		if !slices.Equal(got.paths(fastsync.Bulk), []string{"archive"}) || !slices.Equal(got.acked, []string{"2-0"}) {
			t.Errorf("bulk %v, acknowledged %v; want the listing on its way and the photo done", got.paths(fastsync.Bulk), got.acked)
		}
	})
}

func TestWhatIsTooLargeGoesToTheBulkLaneOnce(t *testing.T) {
	x := swept()
	x.tooLarge, x.large = "video", time.Hour
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "video"), event("2-0", "a"))
		after(time.Second)
		give(l, event("3-0", "b"))
		got := x.look()
		if !slices.Equal(got.acked, []string{"2-0", "3-0"}) || !slices.Equal(got.paths(fastsync.Bulk), []string{"video"}) {
			t.Errorf("acknowledged %v, bulk %v; want the photos done and the video on its way", got.acked, got.paths(fastsync.Bulk))
		}
		after(time.Hour)
		if got := x.look(); !slices.Contains(got.acked, "1-0") || len(got.paths(fastsync.Bulk)) != 1 {
			t.Errorf("acknowledged %v, bulk %v; want the video done by one run", got.acked, got.paths(fastsync.Bulk))
		}
	})
}

// The same file is never on both lanes at once.
func TestAFileOnTheBulkLaneWaitsForIt(t *testing.T) {
	x := swept()
	x.tooLarge, x.large = "video", time.Minute
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "video"))
		after(time.Second)
		x.order(func() { x.tooLarge = "" }) // rewritten, and small now
		give(l, event("2-0", "video"))
		after(30 * time.Second)
		if got := x.look(); len(got.runs) != 2 {
			t.Errorf("runs %v, want none of the file beside its bulk run", got.runs)
		}
		after(time.Minute)
		if got := x.look(); !slices.Equal(got.acked, []string{"1-0", "2-0"}) {
			t.Errorf("acknowledged %v, want both", got.acked)
		}
	})
}

// What changes all the time is looked at by the live lane all the time; the bulk lane,
// which alone ships it, has its turn.
func TestWhatIsTooLargeShipsHoweverOftenItChanges(t *testing.T) {
	x := swept()
	x.tooLarge, x.large, x.took = "archive", 2*time.Second, time.Second
	inBubble(t, never, x, func(l *loop) {
		for n := range 40 {
			give(l, event(fmt.Sprintf("%d-0", n+1), "archive"))
			after(500 * time.Millisecond)
		}
		if got := x.look(); len(got.paths(fastsync.Bulk)) < 3 || !slices.Contains(got.acked, "1-0") {
			t.Errorf("in 20 s the bulk lane had %v, acknowledged %v", got.paths(fastsync.Bulk), got.acked)
		}
	})
}

func tree(id, p string) redis.XMessage {
	m := event(id, p)
	m.Values["scope"] = "tree"
	return m
}

// A bulk run may read a file before it changes and write it after the live run
// has shipped the change.
func TestWhatShippedWhereABulkBatchRanGoesRoundAgain(t *testing.T) {
	x := swept()
	x.tooLarge, x.large, x.took = "archive", time.Minute, time.Second
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "archive/before"))
		after(500 * time.Millisecond)
		give(l, tree("2-0", "archive"), event("3-0", "other")) // waits for the run of before
		after(10 * time.Second)
		give(l, event("4-0", "archive/a/b"), event("5-0", "else"))
		after(5 * time.Second)
		if got := x.look(); !slices.Equal(got.acked, []string{"1-0", "3-0", "4-0", "5-0"}) {
			t.Errorf("acknowledged %v, want all but the tree", got.acked)
		}
		x.order(func() { x.runs = nil })
		after(47*time.Second + gather) // the tree began at 2 s
		got := x.look()
		if !slices.Equal(got.paths(fastsync.Live), []string{"archive/a/b"}) {
			t.Errorf("live runs of %v after the tree, want what lies in it once more", got.paths(fastsync.Live))
		}
		if slices.Contains(got.acked, "2-0") {
			t.Error("the tree was acknowledged before that")
		}
		after(2 * time.Second)
		if got := x.look(); !slices.Contains(got.acked, "2-0") || len(got.acked) != 5 {
			t.Errorf("acknowledged %v, want the tree too, each event once", got.acked)
		}
	})
}

// A bulk run that fails may have written old versions as well.
func TestAFailedBulkRunSendsTheCrossedRoundToo(t *testing.T) {
	x := swept()
	x.tooLarge, x.large = "archive", time.Minute
	inBubble(t, never, x, func(l *loop) {
		give(l, tree("1-0", "archive"))
		after(time.Second)
		give(l, event("2-0", "archive/a"))
		after(time.Second)
		x.order(func() { x.runs, x.tooLarge = nil, "" })
		x.order(func() { x.syncErr = &fastsync.RunError{What: "cut"} })
		give(l, event("3-0", "else")) // so that the fault is seen by a live run too
		after(59 * time.Second)
		x.order(func() { x.syncErr = nil })
		after(5 * time.Minute)
		got := x.look()
		if !slices.Contains(got.paths(fastsync.Live), "archive/a") || !slices.Contains(got.acked, "1-0") {
			t.Errorf("live runs of %v, acknowledged %v; want what was crossed once more, and the tree", got.paths(fastsync.Live), got.acked)
		}
	})
}

// What a directory's copy left out is part of it: its event waits for the file.
func TestADirectoryIsDeliveredWhenItsOpenFilesAre(t *testing.T) {
	x := swept()
	x.opened, x.again = "d/log", "d/log"
	inBubble(t, never, x, func(l *loop) {
		give(l, tree("1-0", "d"), event("2-0", "photo"))
		after(30 * time.Second)
		if got := x.look(); !slices.Equal(got.acked, []string{"2-0"}) {
			t.Errorf("acknowledged %v while a file of the directory is open, want the photo alone", got.acked)
		}
		x.order(func() { x.again = "" })
		after(againMost)
		if got := x.look(); !slices.Equal(got.acked, []string{"2-0", "1-0"}) || len(got.failed) != 0 {
			t.Errorf("acknowledged %v, failed %v; want the directory too", got.acked, got.failed)
		}
	})
}

func TestADirectoryWaitsForAnOpenFileForAMinute(t *testing.T) {
	x := swept()
	x.opened, x.again = "d/log", "d/log"
	inBubble(t, never, x, func(l *loop) {
		give(l, tree("1-0", "d"))
		after(2 * againFor)
		if got := x.look(); !slices.Equal(got.acked, []string{"1-0"}) || got.failed["d/log"].Why != restless {
			t.Errorf("acknowledged %v, failed %v; want the file listed and the directory done", got.acked, got.failed)
		}
	})
}

// With more crossed than is remembered the bulk batch itself goes round again.
func TestTooMuchCrossedSendsTheBulkBatchRoundAgain(t *testing.T) {
	x := swept()
	x.tooLarge, x.large = "archive", time.Minute
	inBubble(t, never, x, func(l *loop) {
		give(l, tree("1-0", "archive"))
		after(time.Second)
		for i := range maxCrossed/1000 + 1 {
			var page []redis.XMessage
			for j := range 1000 {
				page = append(page, event(fmt.Sprint(i+2, "-", j), fmt.Sprint("archive/", i, "/", j)))
			}
			give(l, page...)
		}
		after(time.Minute)
		if got := x.look(); slices.Contains(got.acked, "1-0") || len(got.paths(fastsync.Bulk)) != 2 {
			t.Errorf("bulk runs of %v, want the tree a second time, unacknowledged until then", got.paths(fastsync.Bulk))
		}
		after(time.Minute)
		if got := x.look(); !slices.Contains(got.acked, "1-0") {
			t.Error("the tree was never acknowledged")
		}
	})
}

// What the live lane only looks at while a bulk batch runs, since it is for the bulk
// lane itself, needs no second look: trees in trees would send each other round for good.
func TestTreesInTreesComeToAnEnd(t *testing.T) {
	x := swept()
	x.pulls, x.took, x.large = true, time.Second, time.Second
	cfg := never
	cfg.BatchMax = perDir + 2
	inBubble(t, cfg, x, func(l *loop) {
		n, dir := 0, "d"
		for range 6 {
			for _, e := range []redis.XMessage{tree("", dir), event("", dir+"/a"), event("", dir+"/b")} {
				n++
				e.ID = fmt.Sprintf("%d-0", n)
				give(l, e)
			}
			dir += "/d"
		}
		after(5 * time.Minute)
		got := x.look()
		if len(got.acked) != n {
			t.Errorf("%d of %d events are acknowledged", len(got.acked), n)
		}
		if len(got.runs) > 60 {
			t.Errorf("%d runs for %d events", len(got.runs), n)
		}
	})
}

// A video that has no room is tried again ever later, and keeps no photo away.
func TestWhatHasNoRoomKeepsNoOtherFileAway(t *testing.T) {
	x := swept()
	x.bulkErr = &fastsync.RunError{Class: fastsync.Full, What: "the target is full"}
	x.tooLarge = "video"
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "video"))
		after(10 * time.Minute)
		for i := range 60 {
			x.order(func() { x.syncErr = errors.New("no route to host") })
			give(l, event(fmt.Sprint(2+i, "-0"), "photo"))
			after(10 * time.Millisecond)
			x.order(func() { x.syncErr = nil })
			after(time.Second)
			if got := x.look(); len(got.acked) != i+1 || got.state.Health != "failing" || got.state.Why == "" {
				t.Fatalf("a second after photo %d: %d shipped, %s: %q", i, len(got.acked), got.state.Health, got.state.Why)
			}
		}
		videos := 0
		for _, r := range x.look().runs {
			if r.lane == fastsync.Bulk {
				videos++
			}
		}
		if videos > 15 {
			t.Errorf("the video was tried %d times in 11 minutes", videos)
		}
		x.order(func() { x.bulkErr = nil })
		after(fullMost)
		if got := x.look(); len(got.acked) != 61 || got.state.Health != "ok" || got.state.Why != "" || !got.state.NextTry.IsZero() {
			t.Errorf("there is room: %d shipped, %s: %q", len(got.acked), got.state.Health, got.state.Why)
		}
	})
}

// The lane that finds the target back spares the other one the rest of its backoff.
func TestATargetThatIsBackIsBackForBothLanes(t *testing.T) {
	x := swept()
	x.tooLarge = "video"
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "video"))
		after(time.Millisecond)
		x.order(func() { x.syncErr = errors.New("no route to host") })
		give(l, event("2-0", "photo"))
		after(10 * time.Minute)
		x.order(func() { x.syncErr = nil })
		for len(x.look().acked) == 0 {
			after(100 * time.Millisecond)
		}
		after(2*gather + soon)
		if got := x.look(); len(got.acked) != 2 || got.state.Health != "ok" {
			t.Errorf("shipped %v, %s: %q", got.acked, got.state.Health, got.state.Why)
		}
	})
}
