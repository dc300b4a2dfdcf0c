package fastsync

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheckPath(t *testing.T) {
	for path, good := range map[string]bool{
		"a": true, "a/b": true, Root: true, "..a": true, "#x": true, "a\nb": true, "\xff": true, strings.Repeat("a", MaxPath): true,
		"": false, "..": false, "../a": false, "a/..": false, "a/../b": false, "/a": false, "a/": false, "./a": false,
		"a//b": false, "a\x00b": false, strings.Repeat("a", MaxPath+1): false,
	} {
		if err := CheckPath(path); (err == nil) != good || err != nil && !errors.Is(err, ErrPath) {
			t.Errorf("CheckPath(%.20q) = %v, want good: %v", path, err, good)
		}
	}
}

func fields(values []any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(values); i += 2 {
		m[values[i].(string)] = values[i+1]
	}
	return m
}

func TestParseEventReadsValues(t *testing.T) {
	for _, e := range []Event{
		{Change: Change{Path: "a/b", Scope: Entry}, Origin: CMS, Ref: "article-17", At: time.UnixMicro(1_700_000_000_123_456)},
		{Change: Change{Path: Root, Scope: Tree}, Origin: CatchUp, At: time.UnixMicro(1)},
		{Change: Change{Path: "\xff\n", Scope: Listing}, Origin: Watch, At: time.UnixMicro(2)},
	} {
		if got, err := ParseEvent(fields(e.Values())); err != nil || got != e {
			t.Errorf("ParseEvent = %v, %v; want %v", got, err, e)
		}
	}
	if _, err := ParseEvent(map[string]any{"path": "../a"}); !errors.Is(err, ErrPath) {
		t.Errorf("a path outside the root: %v", err)
	}
	if _, err := ParseEvent(map[string]any{"path": "a", "scope": "all"}); err == nil || errors.Is(err, ErrPath) {
		t.Errorf("an unknown scope: %v", err)
	}
	if e, err := ParseEvent(map[string]any{"path": "a", "at": 7}); err != nil || e.Scope != Entry || !e.At.IsZero() {
		t.Errorf("an event with a path alone = %v, %v", e, err)
	}
}

func TestKeysAndNames(t *testing.T) {
	k := NewKeys("media")
	for got, want := range map[string]string{
		k.Events(): "events", k.Deliveries(): "deliveries", k.Agent(): "agent", k.Targets(): "targets",
		k.Failed("t"): "failed:t", k.Control("t"): "control:t",
	} {
		if got != "fastsync:{media}:"+want {
			t.Errorf("key %q, want fastsync:{media}:%s", got, want)
		}
	}
	for name, good := range map[string]bool{"a-b_C.9": true, "": false, "a b": false, "a}": false, "é": false, strings.Repeat("a", 65): false} {
		if GoodName(name) != good {
			t.Errorf("GoodName(%q) = %v", name, !good)
		}
	}
}

func TestClassOf(t *testing.T) {
	cause := errors.New("cause")
	run := &RunError{Class: Full, What: "no room", Err: cause}
	err := fmt.Errorf("batch: %w", run)
	if ClassOf(err) != Full || ClassOf(cause) != Transient || ClassOf(nil) != Transient {
		t.Error("ClassOf does not find the class")
	}
	if run.Error() != "no room" || !errors.Is(err, cause) {
		t.Errorf("RunError = %q, wraps its cause: %v", run, errors.Is(err, cause))
	}
}

// Whatever passes stays below the root it is joined to.
func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"a", "../a", "a/../..", "/", ".", "a\x00", "..a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		rel, err := filepath.Rel("/root", filepath.Join("/root", p))
		if err != nil || rel != p {
			t.Errorf("%q leads to %q, %v", p, rel, err)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	f.Add("a", "tree", "cms", "r", "1")
	f.Add("../a", "", "", "", "x")
	f.Fuzz(func(t *testing.T, path, scope, origin, ref, at string) {
		e, err := ParseEvent(map[string]any{"path": path, "scope": scope, "origin": origin, "ref": ref, "at": at})
		if err != nil {
			return
		}
		if CheckPath(e.Path) != nil {
			t.Fatalf("let %q through", e.Path)
		}
		if again, err := ParseEvent(fields(e.Values())); err != nil || again.Change != e.Change || again.Ref != e.Ref {
			t.Errorf("%v became %v, %v", e, again, err)
		}
	})
}

func TestBeatsAreAtTheSameMoments(t *testing.T) {
	now := time.Now()
	next := NextBeat(now)
	if wait := next.Sub(now); wait <= 0 || wait > Beat || next.UnixNano()%int64(Beat) != 0 {
		t.Errorf("the beat after %v is %v", now, next)
	}
	if later := NextBeat(next); later.Sub(next) != Beat {
		t.Errorf("the beat after %v is %v", next, later)
	}
	if wait := BeatWithin(time.Hour); wait <= time.Hour-Beat || wait > time.Hour {
		t.Errorf("the last beat within an hour is in %v", wait)
	}
	if wait := BeatWithin(time.Second); wait != time.Second {
		t.Errorf("a second is %v", wait)
	}
}
