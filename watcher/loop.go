package watcher

import (
	"context"
	"io/fs"
	"os"
	"sync"
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
	started  time.Time
	tree     *tree
	fan      *fanotify // nil while inotify watches, and then the tree is empty
	beneath  []string  // mounts below the root, which fan does not see
	end      error     // set when fan cannot go on
	overflow chan struct{}

	heard     time.Time // since then the loop listens and hears nothing
	echo      echo
	root      fs.FileInfo // as it was when it was watched; nil while it is gone
	rootError string

	// catching says that a catch-up runs, again since when the next must look.
	catching bool
	again    *time.Time
	others   others
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
		started:  time.Now(),
		tree:     newTree(w),
		overflow: make(chan struct{}, 1),
		caught:   make(chan *time.Time, 1),
		rewalked: make(chan rewalk, 1),
		others:   others{seen: map[string]look{}},
		soon:     newAlarm(), rewalks: newAlarm(),
	}
}

// begin watches the root; what is below it follows while events are read.
func (l *loop) begin() {
	now := time.Now()
	l.heard, l.good, l.walked = now, now, now
	if root, err := os.Lstat(l.w.cfg.Root); err == nil {
		l.watchRoot(root)
	} else {
		l.lost(err)
	}
}

// begun follows the first walk, if there was one.
func (l *loop) begun(ctx context.Context) {
	if l.tree.known.count > 0 {
		release()
	}
	l.rewalk(ctx)
	if l.w.wasReady() {
		return
	}
	close(l.w.ready)
	if mode := l.w.mode(); mode != Off {
		l.w.cfg.Log.Info().Str("watch", mode).Dur("took", time.Since(l.started)).Msg("watching")
	}
}

// run handles what comes until ctx ends, or fanotify does: its error says why.
func (l *loop) run(ctx context.Context, events <-chan fsnotify.Event, told <-chan heard) error {
	watching := events != nil || told != nil
	// The root's inode is compared at each beat, should nobody ask for the status,
	// which does it too: the root's own watch does not tell of an unmount, of a
	// mount over it or of a parent that was renamed, and /proc/self/mountinfo would
	// tell of the mounts alone.
	roots := newAlarm()
	defer roots.Stop()
	for ready := false; l.end == nil; {
		if !ready && len(l.tree.walks) == 0 {
			ready = true
			l.begun(ctx)
		}
		l.arm(watching)
		if watching && !roots.set {
			roots.within(fastsync.BeatWithin(fastsync.Beat))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.more():
			l.step()
		case e, ok := <-events:
			if !ok {
				return nil
			}
			l.notice(e)
		case h := <-told:
			l.hear(h)
		case <-l.overflow:
			l.overflowed(errOverflow, "raise sysctl fs.inotify.max_queued_events")
		case <-l.w.handed:
			l.adopt()
			l.heard = time.Now()
		case <-l.timer.C:
			l.probeDue(time.Now())
		case <-l.published:
			l.flying, l.flyingSince = false, time.Time{}
		case since := <-l.caught:
			l.rest(since)
		case r := <-l.rewalked:
			l.merge(r)
			l.heard = time.Now()
		case reply := <-l.w.asked:
			reply <- l.answer(watching)
		case <-l.rewalks.C:
			l.rewalks.set = false
			l.rewalk(ctx)
		case now := <-l.soon.C:
			l.soon.set = false
			l.tick(ctx, now, watching)
		case <-roots.C:
			roots.set = false
			l.checkRoot()
		}
		l.send(ctx)
	}
	return l.end
}

// send hands on what is ready, and sees to what comes next.
func (l *loop) send(ctx context.Context) {
	if missed, full := l.flush(ctx); full {
		l.w.cfg.Log.Warn().Time("since", missed).Msg("too many events wait for redis; dropped them for a catch-up")
		l.demand(missed)
	}
	l.rearm()
}

// notice takes what inotify tells.
func (l *loop) notice(e fsnotify.Event) {
	l.listened(time.Now())
	if e.Name == l.echo.path {
		l.read(l.echo.heard())
		return
	}
	if c, ok := ofInotify(l.w.cfg.Root, e); ok {
		l.take(c)
	}
	l.heard = time.Now()
}

// take handles one event of the kernel.
func (l *loop) take(c change) {
	p := c.path
	if p == fastsync.Root {
		if c.what&attrib != 0 {
			l.put(p, fastsync.Entry)
		}
		if c.what&gone != 0 {
			l.root = nil // its watch has ended, even if it is back already
			l.checkRoot()
		}
		return
	}
	known := c.dir || l.tree.knows(p)
	if l.w.cfg.Excluded(p, known) {
		return
	}
	if known && c.what&gone != 0 {
		l.tree.forget(p)
		// Should its name be taken again before anybody looks, what was below
		// the old directory still has to go.
		l.put(p, fastsync.Tree)
	}
	info, err := os.Lstat(l.w.abs(p))
	if err == nil && info.IsDir() {
		if !l.w.cfg.Excluded(p, true) {
			l.takeDir(c)
		}
		return
	}
	if l.tree.knows(p) {
		l.tree.forget(p) // something else has taken its name
	}
	l.links(c, info)
	if err != nil {
		if l.checkRoot(); l.root == nil {
			return // all of it is published when it is back
		}
	}
	if err != nil || !info.Mode().IsRegular() {
		l.drop(p)
		l.put(p, fastsync.Entry)
		return
	}
	switch {
	case c.what&closed != 0:
		l.finish(p)
	case l.closes && c.what&movedIn == 0:
		l.await(p)
	default:
		l.touch(p)
	}
}

// enter watches a directory that is new by its name and publishes what is
// there already. Its files that are still open follow when they are closed.
// Nobody was told of it before since.
func (l *loop) enter(dir string, since time.Time) {
	l.tree.add(&walk{began: since, dir: dir, file: func(p string) { l.follow(p, since) }}, dir)
	l.step() // most are done by this
}

// step goes on with a walk. Its directory is published at the end: what was
// written before a watch was there, ships with the tree.
func (l *loop) step() {
	switch k := l.tree.step(); {
	case k == nil || k.dir == "":
	case k.any:
		l.putSince(k.dir, fastsync.Tree, k.began)
	default:
		l.putMade(k.dir, k.began)
	}
}

// more is ready while there are directories to watch, and they can be listed.
func (l *loop) more() <-chan struct{} {
	if len(l.tree.walks) == 0 || l.tree.scarce {
		return nil
	}
	return always
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// overflowed follows a loss of events by the kernel: watch everything anew,
// then look for what changed since the last time that nothing was lost.
func (l *loop) overflowed(why error, advice string) {
	since := l.good
	l.w.cfg.Log.Warn().Err(why).Time("since", since).Str("if_often", advice).Msg("the kernel lost events; catching up")
	if l.root != nil && l.fan == nil {
		if walk := l.tree.addRoot(); walk.Before(since) {
			since = walk
		}
	}
	l.demand(since.Add(-margin))
}
