package watcher

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fastsync/fastsync"
)

// endless makes each walk of "deep" find one more directory until done says
// so. It gives up before the paths are too long, and tells.
func endless(w *Watcher, t *testing.T, done func() bool) func(string, bool) bool {
	return func(p string, _ bool) bool {
		if p != "deep" && !strings.HasPrefix(p, "deep/") || done() {
			return false
		}
		if len(p) > 3000 {
			t.Error("the walk ends before other events are published")
			return true
		}
		if err := os.MkdirAll(w.abs(p+"/d"), 0o700); err != nil {
			t.Error(err)
		}
		return false
	}
}

func TestEventsDuringTheFirstWalk(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, root, func(w *Watcher) {
		f := w.cfg.Publisher.(*fake)
		var once sync.Once
		w.cfg.Excluded = endless(w, t, func() bool {
			once.Do(func() { // the root is watched and being listed
				if err := os.WriteFile(filepath.Join(root, "early"), nil, 0o600); err != nil {
					t.Error(err)
				}
			})
			return f.count("early") > 0
		})
	})
	if r.count("early") == 0 {
		t.Error("a change during the first walk gave no event")
	}
}

// A large directory that is moved in delays nobody, and is published when all
// of it is watched: what is written before that has no event of its own.
func TestALargeTreeIsPublishedWhenItIsWatched(t *testing.T) {
	root := t.TempDir()
	var moved, tooEarly atomic.Bool
	r := start(t, root, func(w *Watcher) {
		f := w.cfg.Publisher.(*fake)
		var once sync.Once
		w.cfg.Excluded = endless(w, t, func() bool {
			once.Do(func() {
				if err := os.WriteFile(filepath.Join(root, "other"), nil, 0o600); err != nil {
					t.Error(err)
				}
			})
			done := f.count("other") > 0
			if !done && f.count("deep") > 0 {
				tooEarly.Store(true)
			}
			moved.Store(moved.Load() || done)
			return done
		})
	})
	r.must(os.Mkdir(r.path("deep"), 0o700))
	r.waitFor(t, "other", fastsync.Entry)
	r.waitFor(t, "deep", fastsync.Tree)
	if !moved.Load() || tooEarly.Load() {
		t.Error("the tree was published before it was watched")
	}
}

// Directories that are renamed in the middle of their walk keep no watch under
// an old name and get one under the new.
func TestRenamedInTheMiddleOfAWalk(t *testing.T) {
	const subs = 3 * stride
	root, from := t.TempDir(), filepath.Join(t.TempDir(), "a")
	for i := range subs {
		if err := os.MkdirAll(filepath.Join(from, strconv.Itoa(i), "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	r := start(t, root, func(w *Watcher) {
		w.cfg.Excluded = func(p string, _ bool) bool {
			name, sub, _ := strings.Cut(p, "/")
			if strings.HasSuffix(sub, "/x") {
				seen[name]++
			}
			if name < "d" && seen[name] == subs/2 {
				seen[name]++
				if err := os.Rename(w.abs(name), w.abs(string(name[0]+1))); err != nil {
					t.Error(err)
				}
			}
			return false
		}
	})
	r.must(os.Rename(from, r.path("a")))
	r.waitFor(t, "d", fastsync.Tree)
	r.settle()
	if n := r.Status().Watched; n != 2+2*subs {
		t.Errorf("%d directories are watched, want %d", n, 2+2*subs)
	}
	for i := range subs {
		p := fmt.Sprintf("d/%d/x/f", i)
		r.write(p)
		r.waitFor(t, p, fastsync.Entry)
	}
}

// A real overflow while the first walk runs: everything is found by a catch-up
// and every directory gets its watch.
func TestOverflowDuringTheFirstWalk(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip(err)
	}
	queue, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || queue > 50_000 {
		t.Skipf("the kernel's queue holds %s: %v", text, err)
	}
	changes := queue + queue/4 + 4096 // what was read from the queue holds 4096 at most
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	r := start(t, root, func(w *Watcher) {
		w.cfg.Excluded = func(p string, dir bool) bool {
			if p == "d" && dir {
				once.Do(func() { overflow(t, w, changes) })
			}
			return false
		}
	})
	r.waitFor(t, "last", fastsync.Entry)
	r.wait(t, "lost", func(events []fastsync.Event) bool { return covered(events, "lost/f") })
	r.forget()
	r.write("lost/f")
	r.waitFor(t, "lost/f", fastsync.Entry)
}

// overflow is called by the loop, which reads no event until it returns.
func overflow(t *testing.T, w *Watcher, changes int) {
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(w.abs(name), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	for i := range changes { // of two in turn, else the kernel makes one of them
		if err := os.Chmod(w.abs([]string{"a", "b"}[i%2]), 0o600); err != nil {
			t.Error(err)
		}
	}
	if err := errorsFirst(os.Mkdir(w.abs("lost"), 0o700), os.Symlink("x", w.abs("last"))); err != nil {
		t.Error(err)
	}
}

// A link that takes the place of a directory between its listing and its watch
// leads nowhere.
func TestALinkInTheMiddleOfAWalk(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(root, "d"), filepath.Join(outside, "secret")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var once sync.Once
	var read atomic.Bool
	r := start(t, root, func(w *Watcher) {
		w.cfg.Excluded = func(p string, _ bool) bool {
			if p == "d" {
				once.Do(func() {
					if err := errorsFirst(os.Remove(w.abs(p)), os.Symlink(outside, w.abs(p))); err != nil {
						t.Error(err)
					}
				})
			}
			read.Store(read.Load() || p == "d/secret")
			return false
		}
	})
	r.waitFor(t, "d", fastsync.Entry)
	if n := r.Status().Watched; n != 1 || read.Load() {
		t.Errorf("%d directories are watched, want the root alone; the one outside was read: %v", n, read.Load())
	}
}

// fsnotify ends the watch of a directory that moves, also when it is back at once.
func TestRootMovedAndBackAtOnce(t *testing.T) { eachBackend(t, testRootMovedAndBackAtOnce) }

func testRootMovedAndBackAtOnce(t *testing.T, by func(*Watcher)) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, root, by)
	r.write("f")
	r.settle()
	r.forget()
	r.must(errorsFirst(os.Rename(root, root+".old"), os.Rename(root+".old", root)))
	r.waitFor(t, fastsync.Root, fastsync.Tree)
	r.write("g")
	r.waitFor(t, "g", fastsync.Entry)
}

// A directory that was met before its parent goes with it all the same.
func TestWalkOfAParentAfterItsChild(t *testing.T) {
	l := idle(t)
	dir := l.w.abs("a/x")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.enter("a/x", l.good)
	l.enter("a", l.good)
	l.tree.forget("a")
	if l.tree.knows("a/x") {
		t.Error("a/x is left when a is forgotten")
	}
}

// What a walk has still to do below a directory that lost its name is not done:
// a link may have taken that, and lead out of the root.
func TestWalkBelowAForgottenDirectory(t *testing.T) {
	l := idle(t)
	if err := os.MkdirAll(l.w.abs("a/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.tree.walks = []*walk{{dir: "b", todo: []string{l.w.abs("a/x")}}}
	l.step()
	if l.tree.knows("a/x") {
		t.Error("a/x is watched below a that is not")
	}
}

// A walk must not publish what it finds gone with the whole root.
func TestWalkEndsWithTheRoot(t *testing.T) {
	l := idle(t)
	l.tree.walks = []*walk{{dir: "d"}}
	l.lost(os.ErrNotExist)
	if len(l.tree.walks) > 0 {
		t.Error("the walk of d goes on and publishes d as gone")
	}
}
