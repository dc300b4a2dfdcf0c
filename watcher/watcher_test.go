package watcher

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/fastsync/fastsync"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a wait that should end in milliseconds.
const patience = 20 * time.Second

// fake is a Publisher that remembers; cond tells of each call.
type fake struct {
	mu     sync.Mutex
	cond   *sync.Cond
	events []fastsync.Event
}

func newFake() *fake {
	f := &fake{}
	f.cond = sync.NewCond(&f.mu)
	return f
}

func (f *fake) Publish(_ context.Context, events ...fastsync.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, events...)
	f.cond.Broadcast()
	return nil
}

// wait returns when ok holds for the events so far.
func (f *fake) wait(t *testing.T, what string, ok func([]fastsync.Event) bool) {
	t.Helper()
	expired := false
	timer := time.AfterFunc(patience, func() { f.mu.Lock(); expired = true; f.cond.Broadcast(); f.mu.Unlock() })
	defer timer.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok(f.events) {
		if expired {
			t.Fatalf("no %s in %v; events: %v", what, patience, f.events)
		}
		f.cond.Wait()
	}
}

func (f *fake) waitFor(t *testing.T, path string, scope fastsync.Scope) {
	t.Helper()
	f.wait(t, string(scope)+" "+path, func(events []fastsync.Event) bool { return count(events, path, scope) > 0 })
}

func (f *fake) forget() { f.mu.Lock(); f.events = nil; f.mu.Unlock() }

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return count(f.events, path, "")
}

func count(events []fastsync.Event, path string, scope fastsync.Scope) (n int) {
	for _, e := range events {
		if e.Path == path && (scope == "" || e.Scope == scope) {
			n++
		}
	}
	return n
}

type rig struct {
	*fake
	*Watcher
	t    *testing.T
	root string
	n    int
}

func start(t *testing.T, root string, change func(*Watcher)) *rig {
	t.Helper()
	f := newFake()
	w, err := New(Config{Root: root, Publisher: f, Log: zerolog.New(zerolog.NewTestWriter(t)), RewalkEvery: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(w)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-w.Ready()
	return &rig{fake: f, Watcher: w, t: t, root: root}
}

// still is a loop that does not run; the test calls its methods.
func still(t *testing.T, p Publisher) *loop {
	t.Helper()
	w, err := New(Config{Root: t.TempDir(), Publisher: p})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	return newLoop(w, &running)
}

func (r *rig) path(p string) string { return filepath.Join(r.root, p) }

func (r *rig) write(p string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(p), []byte("x"), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// settle returns when everything that happened before it was published:
// inotify keeps the order, and the last event is that of a link made here.
func (r *rig) settle() {
	r.t.Helper()
	r.n++
	name := ".settle" + strconv.Itoa(r.n)
	r.must(os.Symlink("x", r.path(name)))
	r.waitFor(r.t, name, fastsync.Entry)
}

// eventually polls for what has no event to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestSlowWriterGivesOneEventAfterClose(t *testing.T) {
	eachBackend(t, testSlowWriterGivesOneEventAfterClose)
}

func testSlowWriterGivesOneEventAfterClose(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	f, err := os.Create(r.path("slow"))
	r.must(err)
	for range 20 {
		_, err := f.WriteString("more")
		r.must(err)
		r.settle()
	}
	if n := r.count("slow"); n != 0 {
		t.Fatalf("%d events while the file was open", n)
	}
	r.must(f.Close())
	r.waitFor(t, "slow", fastsync.Entry)
	r.settle()
	if n := r.count("slow"); n != 1 {
		t.Fatalf("%d events after close, want 1", n)
	}
	r.forget()
	r.write("slow")
	r.waitFor(t, "slow", fastsync.Entry)
}

func TestRenamedDirectoryKeepsItsWatches(t *testing.T) {
	eachBackend(t, testRenamedDirectoryKeepsItsWatches)
}

func testRenamedDirectoryKeepsItsWatches(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	r.must(os.MkdirAll(r.path("d0/x/y"), 0o700))
	r.settle()
	for i := range 200 {
		from, to := "d"+strconv.Itoa(i), "d"+strconv.Itoa(i+1)
		r.must(os.Rename(r.path(from), r.path(to)))
		r.waitFor(t, to, fastsync.Tree)
		r.forget()
		r.write(to + "/x/y/f")
		r.waitFor(t, to+"/x/y/f", fastsync.Entry)
	}
	eventually(t, "4 directories watched", func() bool { return r.Status().Watched == 4 || r.Status().Mode == Fanotify })
}

func TestRenameThenRemoveDoesNotDeadlock(t *testing.T) {
	eachBackend(t, testRenameThenRemoveDoesNotDeadlock)
}

func testRenameThenRemoveDoesNotDeadlock(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	for range 300 {
		r.must(os.Mkdir(r.path("a"), 0o700))
		r.must(os.Rename(r.path("a"), r.path("b")))
		r.must(os.Remove(r.path("b")))
	}
	r.settle()
	r.write("f")
	r.waitFor(t, "f", fastsync.Entry)
}

// covered tells whether the events tell a target of path.
func covered(events []fastsync.Event, path string) bool {
	if count(events, path, "") > 0 {
		return true
	}
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if count(events, dir, fastsync.Tree) > 0 {
			return true
		}
	}
	return false
}

func TestDeepDirectoriesMadeAtOnce(t *testing.T) { eachBackend(t, testDeepDirectoriesMadeAtOnce) }

func testDeepDirectoriesMadeAtOnce(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	for i := range 100 {
		dir := strconv.Itoa(i) + "/a/b/c"
		r.must(os.MkdirAll(r.path(dir), 0o700))
		r.write(dir + "/f")
	}
	for i := range 100 {
		f := strconv.Itoa(i) + "/a/b/c/f"
		r.wait(t, f, func(events []fastsync.Event) bool { return covered(events, f) })
	}
	r.settle()
	r.forget()
	for i := range 100 {
		f := strconv.Itoa(i) + "/a/b/c/g"
		r.write(f)
		r.waitFor(t, f, fastsync.Entry)
	}
}

func TestOverflowCatchesUp(t *testing.T) {
	faults := make(chan error)
	excluded := false
	var mu sync.Mutex
	var asked atomic.Bool
	r := start(t, t.TempDir(), func(w *Watcher) {
		w.faults = faults
		// Stands for the events that the kernel drops.
		w.cfg.Excluded = func(p string, _ bool) bool {
			mu.Lock()
			defer mu.Unlock()
			if excluded && p == "last" {
				asked.Store(true)
			}
			return excluded
		}
	})
	hide := func(on bool) { mu.Lock(); excluded = on; mu.Unlock() }
	link := func(name string) { r.must(os.Symlink("x", r.path(name))) }
	r.must(os.MkdirAll(r.path("old/d"), 0o700))
	r.write("old/d/changed")
	r.write("old/d/removed")
	r.settle()
	r.forget()
	hide(true)
	r.must(os.Mkdir(r.path("lost"), 0o700))
	r.write("lost/f")
	r.write("old/d/changed")
	r.must(os.Remove(r.path("old/d/removed")))
	// Excluded is asked for each event in order: the last was asked for.
	r.must(os.Symlink("x", r.path("last")))
	eventually(t, "all events dropped", asked.Load)
	hide(false)
	faults <- fsnotify.ErrEventOverflow
	r.wait(t, "old/d/changed", func(events []fastsync.Event) bool { return covered(events, "old/d/changed") })
	r.wait(t, "lost/f", func(events []fastsync.Event) bool { return covered(events, "lost/f") })
	r.wait(t, "old/d/removed", func(events []fastsync.Event) bool {
		return covered(events, "old/d/removed") || count(events, "old/d", fastsync.Listing) > 0
	})
	r.settle()
	link("lost/g")
	r.waitFor(t, "lost/g", fastsync.Entry)
}
