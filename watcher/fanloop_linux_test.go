package watcher

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

func byFanotify(w *Watcher) { w.cfg.Mode, w.status.Mode = Fanotify, Fanotify }

func startFanotify(t *testing.T, root string, change func(*Watcher)) *rig {
	t.Helper()
	needFanotify(t, root)
	return start(t, root, func(w *Watcher) {
		byFanotify(w)
		if change != nil {
			change(w)
		}
	})
}

// No walk, so that start and memory are the same for every tree.
func TestFanotifyCountsNoDirectories(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	r := startFanotify(t, root, func(w *Watcher) {
		w.cfg.Excluded = func(string, bool) bool { asked.Add(1); return false }
	})
	if s := r.Status(); s.Mode != Fanotify || s.Watched != 0 || s.Unwatched != 0 || asked.Load() > 0 {
		t.Errorf("status %+v, %d paths were looked at", s, asked.Load())
	}
	r.write("a/b/c/f")
	r.waitFor(t, "a/b/c/f", fastsync.Entry)
}

// One of two writers is done.
func TestCloseWaitsForTheOtherWriter(t *testing.T) {
	eachBackend(t, func(t *testing.T, by func(*Watcher)) {
		r := start(t, t.TempDir(), by)
		first, err := os.Create(r.path("f"))
		r.must(err)
		second, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
		r.must(err)
		r.must(first.Close())
		r.settle()
		if n := r.count("f"); n != 0 {
			t.Errorf("%d events while a writer has it open", n)
		}
		r.must(second.Close())
		r.waitFor(t, "f", fastsync.Entry)
	})
}

// Closing a file changes nothing in it: the checkpoint stays before its last write.
func TestCloseKeepsTheTimeOfTheLastWrite(t *testing.T) {
	l := still(t, newFake())
	f, err := os.Create(filepath.Join(l.w.cfg.Root, "f"))
	if err != nil {
		t.Fatal(err)
	}
	wrote := time.Now().Add(-time.Hour)
	l.start("f", wrote)
	l.finish("f") // another writer has closed it
	if q := l.probing["f"]; q == nil || !q.since.Equal(wrote) {
		t.Errorf("pending %+v, want it since %v", q, wrote)
	}
	f.Close()
	l.finish("f")
	if at := l.ready["f"].since; !at.Equal(wrote) || len(l.probing) > 0 {
		t.Errorf("ready since %v, %d pending; want %v and none", at, len(l.probing), wrote)
	}
}

// What changes without a close: by truncate(2), or the time alone.
func TestChangesWithoutAClose(t *testing.T) {
	eachBackend(t, func(t *testing.T, by func(*Watcher)) {
		r := start(t, t.TempDir(), by)
		r.write("cut")
		r.write("touched")
		for _, p := range []string{"cut", "touched"} {
			r.waitFor(t, p, fastsync.Entry)
		}
		r.settle()
		r.forget()
		r.must(os.Truncate(r.path("cut"), 0))
		r.waitFor(t, "cut", fastsync.Entry)
		r.must(unix.UtimesNanoAt(unix.AT_FDCWD, r.path("touched"), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1}}, 0))
		r.waitFor(t, "touched", fastsync.Entry)
	})
}

// A writer that stays must hold the checkpoint back, also in a file that was there before.
func TestCheckpointWaitsForARewrite(t *testing.T) {
	eachBackend(t, func(t *testing.T, by func(*Watcher)) {
		r := start(t, t.TempDir(), by)
		r.write("f")
		r.waitFor(t, "f", fastsync.Entry)
		f, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
		r.must(err)
		defer f.Close()
		_, err = f.WriteString("more")
		r.must(err)
		r.settle()
		eventually(t, "it is known as open", func() bool { return r.Status().Pending == 1 })
	})
}

// The rest of the file system is never quiet; the checkpoint moves on all the same.
func TestCheckpointMovesUnderNoise(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	r := startFanotify(t, root, nil)
	r.must(r.CatchUp(t.Context(), time.Now()))
	ctx, cancel := context.WithCancel(t.Context())
	noise := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := os.WriteFile(filepath.Join(top, "noise"), nil, 0o600); err != nil {
				noise <- err
				return
			}
		}
		noise <- nil
	}()
	begun := time.Now()
	eventually(t, "the checkpoint passes the start of the noise", func() bool { return r.Status().Checkpoint.After(begun) })
	cancel()
	r.must(<-noise)
}

// reader looks at each file that it is told of, as the subscriber and rsync do,
// and writes outside the root, as Redis and a target on the same disk do.
type reader struct {
	*fake
	root, out string
}

func (p reader) Publish(ctx context.Context, events ...fastsync.Event) error {
	for _, e := range events {
		_, _ = os.ReadFile(filepath.Join(p.root, e.Path))
		_, _ = os.ReadDir(filepath.Join(p.root, e.Path))
		if err := os.WriteFile(p.out, []byte(e.Path), 0o600); err != nil {
			return err
		}
	}
	return p.fake.Publish(ctx, events...)
}

func TestOwnReadingIsNoEvent(t *testing.T) {
	eachBackend(t, func(t *testing.T, by func(*Watcher)) {
		top := t.TempDir()
		root := filepath.Join(top, "root")
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		p := reader{newFake(), root, filepath.Join(top, "out")}
		r := start(t, root, func(w *Watcher) { by(w); w.cfg.Publisher = p })
		r.fake = p.fake
		r.write("f")
		r.waitFor(t, "f", fastsync.Entry)
		for range 20 {
			r.settle()
		}
		if n := r.count("f"); n != 1 {
			t.Errorf("%d events of one write", n)
		}
	})
}

// hold keeps the loop busy with the file "hold": from when held is closed until free is.
type hold struct {
	held, free chan struct{}
	once       atomic.Bool
}

func newHold() *hold { return &hold{held: make(chan struct{}), free: make(chan struct{})} }

func (h *hold) in(w *Watcher) {
	w.cfg.Excluded = func(p string, _ bool) bool {
		if p == "hold" && h.once.CompareAndSwap(false, true) {
			close(h.held)
			<-h.free
		}
		return false
	}
}

// The kernel drops events while the loop is held up.
func TestFanotifyOverflowCatchesUp(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	if err := os.MkdirAll(filepath.Join(root, "d/e"), 0o700); err != nil {
		t.Fatal(err)
	}
	h := newHold()
	r := startFanotify(t, root, func(w *Watcher) { w.cfg.shortQueue = true; h.in(w) })
	r.write("d/e/before") // so that the places of both are remembered
	r.settle()
	r.write("hold")
	<-h.held
	for i := range 20_000 { // the kernel's default is 16,384
		r.must(os.Symlink("x", filepath.Join(top, strconv.Itoa(i))))
	}
	r.must(os.Rename(r.path("d"), r.path("moved")))
	r.write("moved/e/lost")
	close(h.free)
	r.wait(t, "moved/e/lost", func(events []fastsync.Event) bool { return covered(events, "moved/e/lost") })
	r.settle()
	r.write("moved/e/after")
	r.waitFor(t, "moved/e/after", fastsync.Entry)
}
