package watcher

import (
	"os"
	"testing"
	"time"
)

// What a walk of the unwatched directories finds may be as old as the walk before: until
// Redis has it, the checkpoint does not pass that.
func TestWhatARewalkFindsIsAsOldAsTheWalkBefore(t *testing.T) {
	l := idle(t)
	if err := os.MkdirAll(l.w.abs("d/new/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"d/open", "d/new/open"} {
		f, err := os.Create(l.w.abs(p))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	before := snapshot{sum: 1, since: time.Now().Add(-time.Hour)}
	found := l.w.rewalk(t.Context(), map[string]snapshot{"d": before, "gone": before}, nil)
	l.good = time.Now()
	l.merge(found)
	if at := l.tree.walking(l.good); len(l.tree.walks) > 0 && !at.Equal(before.since) {
		t.Errorf("the walk of what is new is since %s, want %s", at, before.since)
	}
	for len(l.tree.walks) > 0 {
		l.step()
	}
	since := map[string]time.Time{}
	for p, r := range l.ready {
		since[p] = r.since
	}
	for p, q := range l.probing {
		since[p] = q.since
	}
	for _, p := range []string{"d", "gone", "d/new", "d/open", "d/new/open"} {
		if at, ok := since[p]; !ok || !at.Equal(before.since) {
			t.Errorf("%s is known: %v, since %s; want %s", p, ok, at, before.since)
		}
	}
}

// What it could not look at for want of descriptors is looked for by a catch-up: it may
// have its watch by now, and be walked no more.
func TestWhatARewalkCannotListNowIsLookedFor(t *testing.T) {
	l := idle(t)
	if err := os.Mkdir(l.w.abs("d"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := snapshot{sum: 1, since: time.Now().Add(-time.Hour)}
	lack := descriptors(t)
	lack(true)
	found := l.w.rewalk(t.Context(), map[string]snapshot{"d": before}, nil)
	lack(false)
	if l.merge(found); l.again == nil || !l.again.Equal(before.since) {
		t.Errorf("a catch-up is asked for since %v, want %s", l.again, before.since)
	}
}
