package watcher

import (
	"context"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastsync/fastsync"
)

const (
	// tick is how often the loop looks at the root and renews the status.
	tick = 250 * time.Millisecond
	// margin is taken off a time before a catch-up, for clocks that tick
	// coarsely and events that were on their way.
	margin = 2 * time.Second
)

// loop owns all that changes while Run runs. One goroutine, that of Run, uses it.
type loop struct {
	gatherer
	running  *sync.WaitGroup
	tree     *tree
	fan      *fanotify // nil while inotify watches, and then the tree is empty
	beneath  []string  // mounts below the root, which fan does not see
	end      error     // set when fan cannot go on
	overflow chan struct{}

	// heard is when the last event came, good a time up to which every event
	// of the kernel was read.
	heard, good time.Time
	root        fs.FileInfo // as it was when it was watched; nil while it is gone
	rootError   string

	// catching says that a catch-up runs, again since when the next must look.
	catching bool
	again    *time.Time
	linked   time.Time       // first write of a file with other names since the last look for them
	retried  time.Time       // when a catch-up for files without room was last asked for
	caught   chan *time.Time // nil when done, else since when to try again

	rewalking bool
	// walked is when the last finished walk of the unwatched directories began.
	walked   time.Time
	rewalked chan rewalk
}

func newLoop(w *Watcher, running *sync.WaitGroup) *loop {
	return &loop{
		gatherer: newGatherer(w, running),
		running:  running,
		tree:     &tree{w: w, log: w.cfg.Log, dirs: map[string]map[string]struct{}{}, bare: map[string]*snapshot{}},
		overflow: make(chan struct{}, 1),
		caught:   make(chan *time.Time, 1),
		rewalked: make(chan rewalk, 1),
	}
}

// begin watches the whole root for the first time.
func (l *loop) begin(ctx context.Context) {
	now := time.Now()
	l.heard, l.good, l.walked = now, now, now
	if root, err := os.Lstat(l.w.cfg.Root); err == nil {
		l.root, l.rootError = root, ""
		l.watchRoot()
	} else {
		l.lost(err)
	}
	l.rewalk(ctx)
	l.report()
}

// run handles what comes until ctx ends, or fanotify does: its error says why.
func (l *loop) run(ctx context.Context, events <-chan fsnotify.Event, told <-chan heard) error {
	ticks, rewalks := time.NewTicker(tick), time.NewTicker(l.w.cfg.RewalkEvery)
	defer ticks.Stop()
	defer rewalks.Stop()
	for l.end == nil {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-events:
			if !ok {
				return nil
			}
			l.heard = time.Now()
			if c, ok := ofInotify(l.w.cfg.Root, e); ok {
				l.take(c)
			}
		case h := <-told:
			l.hear(h)
		case <-l.overflow:
			l.overflowed("raise sysctl fs.inotify.max_queued_events")
		case <-l.w.handed:
			l.adopt()
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
		case <-rewalks.C:
			l.rewalk(ctx)
		case now := <-ticks.C:
			l.tick(ctx, now, events != nil || told != nil)
		}
		if missed, full := l.flush(ctx); full {
			l.w.cfg.Log.Warn().Time("since", missed).Msg("too many events wait for redis; dropped them for a catch-up")
			l.demand(missed)
		}
		l.rearm()
	}
	return l.end
}

// take handles one event of the kernel.
func (l *loop) take(c change) {
	p := c.path
	if p == fastsync.Root {
		if c.what&attrib != 0 {
			l.put(p, fastsync.Entry)
		}
		return // a root that went away is noticed at the next tick
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
	if err != nil || !info.Mode().IsRegular() {
		l.drop(p)
		l.put(p, fastsync.Entry)
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 && c.what&(written|attrib) != 0 {
		// The kernel tells one name of it only; the others have its new ctime.
		if l.linked.IsZero() {
			l.linked = time.Now()
		}
	}
	if c.what&closed != 0 {
		l.finish(p)
	} else {
		l.touch(p)
	}
}

// enter watches a directory that is new by its name and publishes what is
// there already. Its files that are still open follow when they are closed.
func (l *loop) enter(dir string) {
	f := l.tree.add(dir)
	l.tree.warn()
	if f.any {
		l.put(dir, fastsync.Tree)
	} else {
		l.put(dir, fastsync.Entry)
	}
	l.follow(f.files)
}

// overflowed follows a loss of events by the kernel: watch everything anew,
// then look for what changed since the last time that nothing was lost.
func (l *loop) overflowed(advice string) {
	since := l.good
	l.w.cfg.Log.Warn().Time("since", since).Str("if_often", advice).Msg("the kernel lost events; catching up")
	l.demand(since.Add(-margin))
	if l.root != nil && l.fan == nil {
		l.watchRoot()
	}
}

// demand asks for a catch-up at the next tick, or after the one that runs.
func (l *loop) demand(since time.Time) {
	if l.again == nil || since.Before(*l.again) {
		l.again = &since
	}
}

// tick does what is due by time alone.
func (l *loop) tick(ctx context.Context, now time.Time, watching bool) {
	if watching {
		l.checkRoot()
		// Nothing for a tick: the kernel's queue was empty when that began.
		if now.Sub(l.heard) >= tick {
			l.good, l.heard = l.heard, now
		}
	}
	// Less than half full, or a while ago: else a walk would end where this one did.
	if !l.missed.IsZero() && (len(l.probing) < l.w.cfg.mostOpen/2 || now.Sub(l.retried) >= l.w.cfg.RewalkEvery) {
		l.w.cfg.Log.Warn().Time("since", l.missed).Msg("too many files were open at once; catching up")
		l.demand(l.missed.Add(-margin))
		l.missed, l.retried = time.Time{}, now
	}
	if !l.linked.IsZero() && l.rested(now) {
		l.demand(l.linked.Add(-margin))
		l.linked = time.Time{}
	}
	if l.again != nil && !l.catching && (l.root != nil || !watching) {
		since := *l.again
		l.again, l.catching = nil, true
		l.running.Go(func() {
			err := l.w.CatchUp(ctx, since)
			if err == nil {
				l.caught <- nil
				return
			}
			if ctx.Err() == nil {
				l.w.cfg.Log.Error().Err(err).Msg("catch-up failed and is tried again; see that the root can be read")
			}
			l.caught <- &since
		})
	}
	l.report()
}

// rested tells whether the last catch-up ended ten times as long ago as it took:
// writes to files with several names must not keep a core busy with walks.
func (l *loop) rested(now time.Time) bool {
	last := l.w.Status()
	return now.Sub(last.CatchUpAt) >= 10*last.CatchUpTook
}

// report renews what Status returns.
func (l *loop) report() {
	checkpoint := l.oldest(l.good)
	if !l.linked.IsZero() && l.linked.Before(checkpoint) {
		checkpoint = l.linked
	}
	if (l.rewalking || len(l.tree.bare) > 0) && l.walked.Before(checkpoint) {
		checkpoint = l.walked // what changed in them since is not known yet
	}
	if l.again != nil && l.again.Before(checkpoint) {
		checkpoint = *l.again
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	s := &l.w.status
	s.Watched, s.Unwatched = len(l.tree.dirs)-len(l.tree.bare), len(l.tree.bare)
	s.Reason, s.RootError, s.Pending = l.tree.reason, l.rootError, len(l.probing)
	if l.fan != nil {
		s.Unwatched, s.Reason = len(l.beneath), unseen(l.beneath)
	}
	for _, since := range l.w.owed {
		if since.Before(checkpoint) {
			checkpoint = since
		}
	}
	for _, f := range l.w.open {
		if f.since.Before(checkpoint) {
			checkpoint = f.since
		}
	}
	if !l.w.missed.IsZero() && l.w.missed.Before(checkpoint) {
		checkpoint = l.w.missed
	}
	if l.w.caught && l.root != nil {
		// A change is older than the event that tells of it.
		s.Checkpoint = checkpoint.Add(-margin)
	}
}
