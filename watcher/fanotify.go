package watcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fastsync/fastsync"
)

// heard is what the reader of fanotify hands to the loop.
type heard struct {
	events  []byte    // as the kernel wrote them; goes back by free
	drained time.Time // every event before it was read; zero where more may wait
	mounts  bool      // something was mounted or unmounted somewhere
	err     error     // nothing more will be heard
}

// Probe tells whether fanotify can watch root: nil, or why not and what to do.
// It takes what the kernel and the rights of this process allow, a file system
// with handles that can be opened, and no other mount below the root but where
// excluded (nil for nothing) leaves it out. It leaves nothing behind.
func Probe(root string, excluded func(path string, dir bool) bool) error {
	w, err := New(Config{Root: root, Excluded: excluded, Publisher: nobody{}})
	if err != nil {
		return err
	}
	f, err := openFanotify(w.cfg.Root, w.cfg.mostPlaces, false)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.mark(); err != nil {
		return err
	}
	if found := f.beneath(w.cfg.Excluded); len(found) > 0 {
		return fmt.Errorf("%w: %s", errRefused, unseen(found))
	}
	return nil
}

type nobody struct{}

func (nobody) Publish(context.Context, ...fastsync.Event) error { return nil }

// byFanotify runs the loop with fanotify. Its error is why that ended before
// ctx; the loop is then ready for inotify.
func (l *loop) byFanotify(ctx context.Context) error {
	f, err := openFanotify(l.w.cfg.Root, l.w.cfg.mostPlaces, l.w.cfg.shortQueue)
	if err == nil {
		l.fan, l.closes = f, true
		err = l.runFanotify(ctx)
	}
	if err != nil && l.w.cfg.Fallback {
		l.fall(err)
	}
	return err
}

func (l *loop) runFanotify(ctx context.Context) error {
	var reading sync.WaitGroup
	defer l.fan.close()
	defer reading.Wait()
	defer l.fan.stop()
	reading.Go(l.fan.read)
	l.begin()
	return l.run(ctx, nil, l.fan.heard)
}

// fall makes the loop ready to go on with inotify.
func (l *loop) fall(err error) {
	l.w.cfg.Log.Warn().Err(err).Msg("fanotify cannot watch the root any more; watching each directory with inotify instead")
	l.w.mu.Lock()
	l.w.status.Mode, l.w.status.Fallback = Fsnotify, err.Error()
	l.w.mu.Unlock()
	if !l.good.IsZero() { // else nothing was missed: it never began
		l.demand(l.good.Add(-margin))
	}
	l.fan, l.closes, l.end, l.beneath = nil, false, nil, nil
}

// mark marks the root's file system. A root that is refused counts as lost,
// and is tried again as such, unless inotify can take over.
func (l *loop) mark() bool {
	err := l.fan.mark()
	switch {
	case err == nil:
		l.lookBeneath()
	case errors.Is(err, errRefused) && (l.w.cfg.Fallback || !l.w.wasReady()):
		l.end = err
	default:
		l.lost(err)
	}
	return err == nil
}

// wasReady tells whether Ready is closed.
func (w *Watcher) wasReady() bool {
	select {
	case <-w.ready:
		return true
	default:
		return false
	}
}

// hear takes what the reader tells.
func (l *loop) hear(h heard) {
	l.listened(time.Now())
	defer func() { l.heard = time.Now() }()
	if h.err != nil {
		l.end = h.err
		return
	}
	if h.mounts {
		l.remounted()
		return
	}
	if err := l.fan.changes(h.events, l.take); err != nil {
		l.overflowed(err, "give the host more memory, or fastsync more open files: LimitNOFILE")
	}
	l.fan.free <- h.events[:cap(h.events)]
	l.read(h.drained)
}

// remounted follows a change of what is mounted, anywhere.
func (l *loop) remounted() {
	if l.root != nil && !l.fan.hasMark() {
		l.lost(errors.New("its file system was unmounted"))
	}
	l.checkRoot()
	if l.root != nil {
		l.lookBeneath()
	}
}

// lookBeneath looks for mounts below the root. What is new there ships as it
// is now, for no event will tell.
func (l *loop) lookBeneath() {
	found := l.fan.beneath(l.w.cfg.Excluded)
	for _, p := range found {
		if !slices.Contains(l.beneath, p) {
			l.put(p, fastsync.Tree)
		}
	}
	switch {
	case len(found) > 0 && l.w.cfg.Fallback:
		l.end = fmt.Errorf("%w: %s", errRefused, unseen(found))
	case len(found) > len(l.beneath):
		l.w.cfg.Log.Warn().Str("reason", unseen(found)).Msg("something is mounted below the root and is not watched")
	case len(found) == 0 && len(l.beneath) > 0:
		l.w.cfg.Log.Info().Msg("recovered: nothing is mounted below the root any more")
	}
	l.beneath = found
}
