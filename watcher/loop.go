package watcher

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastsync/fastsync"
)

// margin is taken off a time before a catch-up, for clocks that tick coarsely
// and events that were on their way.
const margin = 2 * time.Second

// loop owns all that changes while Run runs. One goroutine, that of Run, uses it.
type loop struct {
	gatherer
	running  *sync.WaitGroup
	tree     *tree
	overflow chan struct{}

	// heard is since when the loop listens and hears nothing, good a time up to
	// which every event of the kernel was read.
	heard, good time.Time
	root        fs.FileInfo // as it was when it was watched; nil while it is gone
	rootError   string

	// catching says that a catch-up runs, again since when the next must look.
	catching bool
	again    *time.Time
	linked   time.Time       // first write of a file with other names since the last look for them
	retried  time.Time       // when a catch-up for files without room was last asked for
	caught   chan *time.Time // nil when done, else since when to try again

	soon, rewalks alarm

	rewalking bool
	// walked is when the last finished walk of the unwatched directories began.
	walked   time.Time
	rewalked chan rewalk
}

func newLoop(w *Watcher, running *sync.WaitGroup) *loop {
	return &loop{
		gatherer: newGatherer(w, running),
		running:  running,
		tree:     newTree(w),
		overflow: make(chan struct{}, 1),
		caught:   make(chan *time.Time, 1),
		rewalked: make(chan rewalk, 1),
		soon:     newAlarm(), rewalks: newAlarm(),
	}
}

// begin watches the root; what is below it follows while events are read.
func (l *loop) begin() {
	now := time.Now()
	l.heard, l.good, l.walked = now, now, now
	if root, err := os.Lstat(l.w.cfg.Root); err == nil {
		l.root = root
		l.tree.addRoot()
	} else {
		l.lost(err)
	}
}

// begun follows the first walk.
func (l *loop) begun(ctx context.Context) {
	release()
	l.rewalk(ctx)
	close(l.w.ready)
}

func (l *loop) run(ctx context.Context, events <-chan fsnotify.Event) {
	var roots <-chan time.Time
	if events != nil {
		t := time.NewTicker(rootEvery)
		defer t.Stop()
		roots = t.C
	}
	for ready := false; ; {
		if !ready && len(l.tree.walks) == 0 {
			ready = true
			l.begun(ctx)
		}
		l.arm(events != nil)
		select {
		case <-ctx.Done():
			return
		case <-l.more():
			l.step()
		case e, ok := <-events:
			if !ok {
				return
			}
			l.listened(time.Now())
			l.take(e)
			l.heard = time.Now()
		case <-l.overflow:
			l.overflowed()
		case <-l.w.handed:
			l.adopt()
			l.heard = time.Now()
		case <-l.timer.C:
			l.probeDue(time.Now())
		case <-l.published:
			l.flying, l.flyingSince = false, time.Time{}
		case since := <-l.caught:
			l.catching = false
			if since != nil {
				l.demand(*since)
			}
		case r := <-l.rewalked:
			l.merge(r)
			l.heard = time.Now()
		case reply := <-l.w.asked:
			reply <- l.answer(events != nil)
		case <-l.rewalks.C:
			l.rewalks.set = false
			l.rewalk(ctx)
		case now := <-l.soon.C:
			l.soon.set = false
			l.tick(ctx, now, events != nil)
		case <-roots:
			l.checkRoot()
		}
		if missed, full := l.flush(ctx); full {
			l.w.cfg.Log.Warn().Time("since", missed).Msg("too many events wait for redis; dropped them for a catch-up")
			l.demand(missed)
		}
		l.rearm()
	}
}

// take handles one event of the kernel.
func (l *loop) take(e fsnotify.Event) {
	p, err := filepath.Rel(l.w.cfg.Root, e.Name)
	if err != nil || p == ".." || strings.HasPrefix(p, "../") {
		return
	}
	if p == fastsync.Root {
		if e.Has(fsnotify.Chmod) {
			l.put(p, fastsync.Entry)
		}
		if e.Has(fsnotify.Remove | fsnotify.Rename) {
			l.root = nil // its watch has ended, even if it is back already
			l.checkRoot()
		}
		return
	}
	known := l.tree.knows(p)
	if known && e.Has(fsnotify.Remove|fsnotify.Rename) {
		l.tree.forget(p)
		// Should its name be taken again before anybody looks, what was below
		// the old directory still has to go.
		l.put(p, fastsync.Tree)
	}
	if l.w.cfg.Excluded(p, known) {
		return
	}
	info, err := os.Lstat(l.w.abs(p))
	if err == nil && info.IsDir() {
		if l.w.cfg.Excluded(p, true) {
			return
		}
		if l.tree.knows(p) && !e.Has(fsnotify.Create) {
			l.put(p, fastsync.Entry) // its mode or owner
			return
		}
		l.enter(p)
		return
	}
	if l.tree.knows(p) {
		l.tree.forget(p) // something else has taken its name
	}
	if err != nil || !info.Mode().IsRegular() {
		l.drop(p)
		l.put(p, fastsync.Entry)
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 && e.Has(fsnotify.Write|fsnotify.Chmod) {
		// The kernel tells one name of it only; the others have its new ctime.
		if l.linked.IsZero() {
			l.linked = time.Now()
		}
	}
	l.touch(p)
}

// enter watches a directory that is new by its name and publishes what is
// there already. Its files that are still open follow when they are closed.
func (l *loop) enter(dir string) {
	l.tree.add(&walk{dir: dir, file: l.follow}, dir)
	l.step() // most are done by this
}

// step goes on with a walk. Its directory is published at the end: what was
// written before a watch was there, ships with the tree.
func (l *loop) step() {
	switch k := l.tree.step(); {
	case k == nil || k.dir == "":
	case k.any:
		l.put(k.dir, fastsync.Tree)
	default:
		l.put(k.dir, fastsync.Entry)
	}
}

// more is ready while there are directories to watch.
func (l *loop) more() <-chan struct{} {
	if len(l.tree.walks) == 0 {
		return nil
	}
	return always
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// overflowed follows a loss of events by the kernel: watch everything anew,
// then look for what changed since the last time that nothing was lost.
func (l *loop) overflowed() {
	since := l.good
	l.w.cfg.Log.Warn().Time("since", since).Msg("the kernel lost events; catching up. If this is often, raise sysctl fs.inotify.max_queued_events")
	if l.root != nil {
		if walk := l.tree.addRoot(); walk.Before(since) {
			since = walk
		}
	}
	l.demand(since.Add(-margin))
}
