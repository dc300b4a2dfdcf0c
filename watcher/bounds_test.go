package watcher

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

// More open files than there is room for are found when there is room again.
func TestTooManyOpenFiles(t *testing.T) { eachBackend(t, testTooManyOpenFiles) }

func testTooManyOpenFiles(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), func(w *Watcher) { by(w); w.cfg.mostOpen = 4 })
	var files []*os.File
	for i := range 20 {
		f, err := os.Create(r.path(strconv.Itoa(i)))
		r.must(err)
		defer f.Close()
		files = append(files, f)
	}
	r.settle()
	if n := r.Status().Pending; n > 4 {
		t.Fatalf("%d files are kept, want at most 4", n)
	}
	for _, f := range files {
		_, err := f.WriteString("x")
		r.must(err)
		r.must(f.Close())
	}
	for i := range files {
		r.waitFor(t, strconv.Itoa(i), fastsync.Entry)
	}
}

func TestHandedFilesAreBounded(t *testing.T) {
	w, err := New(Config{Root: t.TempDir(), Publisher: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.mostOpen = 2
	old := time.Now().Add(-time.Hour)
	w.hand([]opened{{"a", time.Now()}, {"b", time.Now()}, {"c", old}})
	if len(w.open) != 2 || !w.missed.Equal(old) {
		t.Errorf("%d kept, missed since %v; want 2 and %v", len(w.open), w.missed, old)
	}
}

// While a file is open the checkpoint stays before its last write.
func TestCheckpointWaitsForWriters(t *testing.T) { eachBackend(t, testCheckpointWaitsForWriters) }

func testCheckpointWaitsForWriters(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	f, err := os.Create(r.path("f"))
	r.must(err)
	defer f.Close()
	_, err = f.WriteString("x")
	r.must(err)
	info, err := os.Stat(r.path("f"))
	r.must(err)
	r.must(r.CatchUp(t.Context(), time.Now()))
	eventually(t, "a checkpoint", func() bool { return !r.Status().Checkpoint.IsZero() && r.Status().Pending == 1 })
	if at := r.Status().Checkpoint; at.After(ctime(info)) {
		t.Errorf("checkpoint %v is after the write at %v", at, ctime(info))
	}
}

func TestOffPublishesNothingButCatchUps(t *testing.T) {
	root := t.TempDir()
	r := start(t, root, func(w *Watcher) { w.cfg.Mode = Off })
	before := time.Now().Add(-time.Second)
	r.write("f")
	r.must(r.CatchUp(t.Context(), before))
	if n := r.count("f"); n != 1 {
		t.Errorf("%d events, want the one of the catch-up", n)
	}
	if s := r.Status(); s.Watched != 0 || !s.Checkpoint.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestExcludedDirectoryIsNeverWatched(t *testing.T) {
	eachBackend(t, testExcludedDirectoryIsNeverWatched)
}

func testExcludedDirectoryIsNeverWatched(t *testing.T, by func(*Watcher)) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "cache/deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, root, func(w *Watcher) {
		by(w)
		w.cfg.Excluded = func(p string, _ bool) bool {
			top, _, _ := strings.Cut(p, "/")
			return top == "cache" || top == "later" || strings.HasSuffix(p, ".tmp")
		}
	})
	r.must(os.MkdirAll(r.path("later/deep"), 0o700))
	r.write("x.tmp")
	r.write("cache/deep/f")
	r.write("later/deep/f")
	r.settle()
	if s := r.Status(); s.Watched != 1 && s.Mode == Fsnotify {
		t.Errorf("%d directories are watched, want the root alone", s.Watched)
	}
	r.fake.mu.Lock()
	defer r.fake.mu.Unlock()
	for _, e := range r.events {
		if !strings.HasPrefix(e.Path, ".settle") {
			t.Errorf("published %v", e)
		}
	}
}

// stuck is a Publisher that takes nothing until it is let go.
type stuck struct {
	*fake
	free chan struct{}
}

func (s stuck) Publish(ctx context.Context, events ...fastsync.Event) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.free:
		return s.fake.Publish(ctx, events...)
	}
}

func TestTooManyWaitingEventsBecomeACatchUp(t *testing.T) {
	eachBackend(t, testTooManyWaitingEventsBecomeACatchUp)
}

func testTooManyWaitingEventsBecomeACatchUp(t *testing.T, by func(*Watcher)) {
	s := stuck{fake: newFake(), free: make(chan struct{})}
	r := start(t, t.TempDir(), func(w *Watcher) { by(w); w.cfg.most, w.cfg.Publisher = 10, s })
	for i := range 100 {
		r.write(strconv.Itoa(i))
	}
	close(s.free)
	for i := range 100 {
		name := strconv.Itoa(i)
		s.wait(t, name, func(events []fastsync.Event) bool {
			return covered(events, name) || count(events, ".", fastsync.Tree) > 0
		})
	}
	eventually(t, "a catch-up", func() bool { return !r.Status().CatchUpAt.IsZero() })
}

func TestRootGoneAndBack(t *testing.T) { eachBackend(t, testRootGoneAndBack) }

func testRootGoneAndBack(t *testing.T, by func(*Watcher)) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, root, by)
	r.must(os.Rename(root, root+".old"))
	eventually(t, "status tells", func() bool { return r.Status().RootError != "" })
	r.must(os.Mkdir(root+".new", 0o700))
	r.must(os.WriteFile(root+".new/f", nil, 0o600))
	r.must(os.Rename(root+".new", root))
	r.waitFor(t, fastsync.Root, fastsync.Tree)
	eventually(t, "status recovers", func() bool { return r.Status().RootError == "" })
	r.write("g")
	r.waitFor(t, "g", fastsync.Entry)
}

const mounted = "FASTSYNC_TEST_MOUNT"

// TestUnmountedRoot runs itself again in a mount namespace of its own.
func TestUnmountedRoot(t *testing.T) {
	if os.Getenv(mounted) == "" {
		if exec.Command("unshare", "-m", "true").Run() != nil {
			t.Skip("no mount namespaces here")
		}
		cmd := exec.Command("unshare", "-m", os.Args[0], "-test.run=^TestUnmountedRoot$", "-test.v")
		cmd.Env = append(os.Environ(), mounted+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	eachBackend(t, testUnmountedRoot)
}

func testUnmountedRoot(t *testing.T, by func(*Watcher)) {
	root := t.TempDir()
	mount := func() error { return unix.Mount("none", root, "tmpfs", 0, "") }
	if err := mount(); errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, root, by)
	r.must(unix.Unmount(root, 0))
	if r.Status().RootError == "" {
		t.Error("who asks for the status is not told that the root is gone")
	}
	if n := r.count("f") + r.count("."); n != 0 {
		t.Errorf("%d events of an unmount, which are deletions to a target", n)
	}
	r.must(mount())
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	r.write("g")
	r.waitFor(t, fastsync.Root, fastsync.Tree)
	r.write("h")
	r.waitFor(t, "h", fastsync.Entry)
}
