package subscriber

import (
	"errors"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// What a cut run left of a file is removed once the file was shipped or is
// gone, not while its next run would go on from it.
func TestPartsOfFilesGoWhenNothingGoesOnFromThem(t *testing.T) {
	x := swept()
	x.syncErr = errors.New("the connection broke")
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "d/video"), event("2-0", "e/b"))
		after(10 * time.Second)
		if got := x.look(); len(got.tidied) != 0 {
			t.Fatalf("tidied %v while the runs are tried again", got.tidied)
		}
		x.order(func() { x.syncErr, x.refuse = nil, map[string]string{"d/video": "permission denied"} })
		after(time.Minute)
		if got := x.look(); len(got.tidied) != 1 || got.tidied[0].Path != "e/b" {
			t.Fatalf("tidied %v, want e/b; d/video is tried again", got.tidied)
		}
		x.order(func() { x.refuse = nil })
		after(time.Hour)
		if got := x.look(); len(got.tidied) != 2 || got.tidied[1].Path != "d/video" {
			t.Fatalf("tidied %v, want d/video too", got.tidied)
		}
	})
}

// A run that rsync ended early for one file may have left another's parts.
func TestARunThatEndedEarlyIsTidiedAfter(t *testing.T) {
	x := swept()
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(time.Minute)
		x.order(func() { x.cut = true })
		give(l, event("2-0", "b"))
		after(time.Minute)
		if got := x.look(); len(got.tidied) != 1 || got.tidied[0].Path != "b" {
			t.Errorf("tidied %v, want b alone", got.tidied)
		}
	})
}

// What could not be removed for a moment goes later, also when nothing else comes,
// and at the latest when fastsync ends.
func TestPartsOfFilesGoOnceTheyCan(t *testing.T) {
	x := swept()
	x.cut, x.tidyErr = true, errors.New("the connection broke")
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(time.Minute)
		x.order(func() { x.tidyErr = nil })
		after(transientMost)
		got := x.look()
		if len(got.tidied) != 1 || got.tidied[0].Path != "a" {
			t.Errorf("tidied %v, want a alone", got.tidied)
		}
		if len(got.settled) != 2 {
			t.Errorf("settled %v, want a's directory after its batch, and once its part was gone", got.settled)
		}
	})
}

// A daemon that refuses to delete keeps parts of files; directories get their times.
func TestTimesAreSetWhereNothingCanBeRemoved(t *testing.T) {
	x := swept()
	x.cut, x.tidyErr = true, errors.New("the daemon refuses to delete")
	inBubble(t, never, x, func(l *loop) {
		give(l, event("1-0", "a"))
		after(time.Hour)
		if got := x.look(); len(got.settled) != 1 || len(got.settled[0]) != 1 || got.settled[0][0].Path != "a" {
			t.Errorf("settled %v, want a's directory once", got.settled)
		}
	})
}

// What a process that was killed left is found by a sweep; it is no drift.
func TestPartsThatASweepFindsAreTidied(t *testing.T) {
	x := swept()
	x.parts = "d/" + fastsync.PartialDir
	inBubble(t, never, x, func(l *loop) {
		l.orders <- "dry-run 1"
		after(time.Minute)
		if got := x.look(); len(got.tidied) != 0 {
			t.Errorf("a dry run tidied %v", got.tidied)
		}
		l.orders <- "sweep 2"
		after(time.Minute)
		got := x.look()
		if len(got.tidied) != 1 || got.tidied[0] != (fastsync.Change{Path: "d", Scope: fastsync.Listing}) {
			t.Errorf("tidied %v, want the listing of d", got.tidied)
		}
		if s := got.state.Sweep; s.Drift+s.Extra+s.Left != 0 || got.state.Health != "ok" {
			t.Errorf("%+v", s)
		}
	})
}

func TestMeets(t *testing.T) {
	entry := func(p string) fastsync.Change { return fastsync.Change{Path: p, Scope: fastsync.Entry} }
	tree := func(p string) fastsync.Change { return fastsync.Change{Path: p, Scope: fastsync.Tree} }
	for _, c := range []struct {
		a, b fastsync.Change
		want bool
	}{
		{entry("d/a"), entry("d/b"), true},
		{entry("d/a"), entry("e/a"), false},
		{entry("d/a"), entry("d/e/a"), false},
		{entry("d/e/a"), tree("d"), true},
		{entry("a"), tree("d"), false},
		{entry("dd/a"), tree("d"), false},
		{tree("d/e"), tree("d"), true},
		{tree(fastsync.Root), entry("d/e/a"), true},
		{fastsync.Change{Path: "d", Scope: fastsync.Listing}, entry("d/a"), true},
	} {
		if meets(c.a, []fastsync.Change{c.b}) != c.want || meets(c.b, []fastsync.Change{c.a}) != c.want {
			t.Errorf("%v and %v: want %v both ways", c.a, c.b, c.want)
		}
	}
}
