package watcher

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// All names of a file have its new content; the kernel tells one of them.
func TestHardLinkIsPublishedByAllNames(t *testing.T) {
	eachBackend(t, testHardLinkIsPublishedByAllNames)
}

func testHardLinkIsPublishedByAllNames(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	r.must(os.MkdirAll(r.path("a/a"), 0o700))
	r.must(os.MkdirAll(r.path("b/b"), 0o700))
	r.write("a/a/f")
	r.must(os.Link(r.path("a/a/f"), r.path("b/b/g")))
	r.settle()
	r.forget()
	r.write("a/a/f")
	r.waitFor(t, "a/a/f", fastsync.Entry)
	r.wait(t, "b/b/g", func(events []fastsync.Event) bool { return covered(events, "b/b/g") })
}

// A name that is gone again before it is looked at tells of the others, too, but not
// one that was moved, as all that is written beside its place and renamed.
func TestAWrittenNameThatIsRemovedTellsOfTheOthers(t *testing.T) {
	for _, test := range []struct {
		what []what
		want bool
	}{
		{[]what{written | closed, gone | removed}, true},
		{[]what{written | closed | gone | removed}, true},
		{[]what{attrib, gone | removed}, true},
		{[]what{written | closed, gone}, false},
		{[]what{written | closed, gone, gone | removed}, false},
		{[]what{gone | removed}, false},
	} {
		l := still(t, newFake())
		for _, w := range test.what {
			l.take(change{path: "f", what: w})
		}
		if l.others.since.IsZero() == test.want || len(l.others.seen) != 0 {
			t.Errorf("%b: other names are looked for: %v, remembered %v", test.what, !l.others.since.IsZero(), l.others.seen)
		}
	}
}

// Nor does a name tell of the others by itself that is another file's by the time it is
// looked at. What saves a file the usual ways costs no search.
func TestAWrittenNameThatIsAnothersTellsOfTheOthers(t *testing.T) {
	const in, wrote = made | movedIn, written | closed
	type step struct {
		do   string // write, replace (by a file that was beside it), remove, or nothing
		tell what
	}
	for name, test := range map[string]struct {
		steps []step
		want  bool
	}{
		"replaced":                        {[]step{{"replace", wrote}, {"", in}}, true},
		"replaced, by inotify":            {[]step{{"replace", written}, {"", made}}, true},
		"replaced, in one event":          {[]step{{"replace", wrote | in}}, true},
		"mode changed, then replaced":     {[]step{{"replace", attrib}, {"", in}}, true},
		"removed and made anew":           {[]step{{"replace", wrote}, {"", gone | removed}, {"", made}}, true},
		"removed, looked at, made anew":   {[]step{{"remove", wrote}, {"replace", gone | removed}}, true},
		"looked at, then replaced":        {[]step{{"write", wrote}, {"replace", in}}, false},
		"looked at, then removed":         {[]step{{"write", wrote}, {"remove", gone | removed}}, false},
		"removed and made by one writer":  {[]step{{"replace", wrote | gone | removed | made}}, false},
		"written beside it, then renamed": {[]step{{"replace", in}}, false},
		"renamed while open, then closed": {[]step{{"replace", in | closed}}, false},
		"renamed, then its mode is set":   {[]step{{"replace", in | attrib}}, false},
		"made, then written":              {[]step{{"write", made}, {"write", wrote}}, false},
		"written twice":                   {[]step{{"write", wrote}, {"write", wrote}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := still(t, newFake())
			f := l.w.abs("f")
			do := map[string]func() error{
				"write":  func() error { return os.WriteFile(f, nil, 0o600) },
				"remove": func() error { return os.Remove(f) },
				"replace": func() error {
					return errors.Join(os.WriteFile(f+".new", nil, 0o600), os.Rename(f+".new", f))
				},
				"": func() error { return nil },
			}
			if err := do["write"](); err != nil {
				t.Fatal(err)
			}
			for _, s := range test.steps {
				if err := do[s.do](); err != nil {
					t.Fatal(err)
				}
				l.take(change{path: "f", what: s.tell})
			}
			if l.others.since.IsZero() == test.want {
				t.Errorf("other names are looked for: %v", !test.want)
			}
		})
	}
}

// What is remembered of names for this goes with the events from before it.
func TestSeenNamesAreForgotten(t *testing.T) {
	l := still(t, newFake())
	if err := os.WriteFile(l.w.abs("f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	l.take(change{path: "f", what: written})
	if l.read(before); len(l.others.seen) != 1 {
		t.Error("forgotten while events from before the look may come")
	}
	if l.read(time.Now()); len(l.others.seen) != 0 {
		t.Error("remembered for ever")
	}
	for i := range mostSeen + 1 {
		l.take(change{path: strconv.Itoa(i), what: written})
	}
	if n := len(l.others.seen); n != mostSeen {
		t.Errorf("%d names are remembered, want at most %d", n, mostSeen)
	}
}

// However late an event is heard, the look for the others goes back to its change.
func TestOtherNamesAreLookedForSinceTheChange(t *testing.T) {
	l := still(t, newFake())
	late := time.Now().Add(-time.Minute)
	l.good = late
	l.take(change{path: "f", what: written | gone | removed})
	if !l.others.since.Equal(late) {
		t.Errorf("looks for what changed since %v, events were read up to %v", l.others.since, late)
	}
}

// Writes to files with several names cost a tenth of a core in walks, at most.
func TestHardLinksDoNotKeepWalking(t *testing.T) {
	l := still(t, newFake())
	now := time.Now()
	w := l.w
	w.status.CatchUpAt, w.status.CatchUpTook = now, time.Second
	l.others.since = now
	l.tick(t.Context(), now.Add(9*time.Second), false)
	if l.catching || l.others.since.IsZero() {
		t.Error("it walks again after 9 s, the last walk took 1 s")
	}
	l.tick(t.Context(), now.Add(10*time.Second), false)
	if !l.catching || !l.others.since.IsZero() {
		t.Error("it does not walk after 10 s")
	}
}

// The checkpoint, too, is before a change that was heard of late: who dies with its
// event unsent looks for it at the next start.
func TestCheckpointIsBeforeAChangeHeardLate(t *testing.T) {
	l := still(t, stuck{fake: newFake(), free: make(chan struct{})})
	late := time.Now().Add(-time.Minute)
	l.good = late
	for _, p := range []string{"open", "closed"} {
		if err := os.WriteFile(l.w.abs(p), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(l.w.abs("open"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for p, w := range map[string]what{"open": written, "closed": written | closed} {
		l.good = late
		l.take(change{path: p, what: w})
		l.good = time.Now() // all was read since
		if at := l.oldest(l.good); at.After(late) {
			t.Errorf("%s: the oldest unpublished change is of %v, it was read of after %v", p, at, late)
		}
		l.ready, l.probing = map[string]waiting{}, map[string]*pending{}
	}
}
