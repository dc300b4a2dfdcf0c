// Package watcher owns completeness: every change under the root becomes at
// least one event. It watches with fsnotify, publishes a file once its writer
// has closed it, and walks the root when it cannot be sure of what it saw.
package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/fastsync/fastsync"
)

// Publisher takes events; it returns an error only when ctx ends.
type Publisher interface {
	Publish(ctx context.Context, events ...fastsync.Event) error
}

// Config is what a Watcher needs.
type Config struct {
	// Root is absolute and without symbolic links.
	Root      string
	Publisher Publisher
	// Excluded leaves paths out; nil leaves out none.
	Excluded func(path string, dir bool) bool
	// Mode is "fsnotify" or "off".
	Mode string
	// Quiet is how long a file must not change where the kernel cannot say
	// whether it is open; 0 means 1 s.
	Quiet time.Duration
	// RewalkEvery is the time between walks while some directories cannot be
	// watched; 0 means 30 s.
	RewalkEvery time.Duration
	Log         zerolog.Logger
}

// Status is what the watcher tells of itself.
type Status struct {
	Mode        string    `json:"mode"`
	Directories int64     `json:"directories"`
	Unwatched   string    `json:"unwatched,omitempty"`
	CaughtUp    time.Time `json:"caught_up,omitzero"`
	Found       int64     `json:"found"`
}

// Watcher watches one root.
type Watcher struct {
	cfg    Config
	ready  chan struct{}
	found  chan fastsync.Event // from the tree and walks to the gatherer
	status atomic.Pointer[Status]
	// checkpoint is the time, in Unix nanoseconds, up to which everything
	// noticed is in Redis.
	checkpoint atomic.Int64
	overflow   chan time.Time
}

// New checks the configuration; it starts nothing.
func New(cfg Config) (*Watcher, error) {
	if !filepath.IsAbs(cfg.Root) {
		return nil, fmt.Errorf("root %q is not absolute", cfg.Root)
	}
	if cfg.Mode != "fsnotify" && cfg.Mode != "off" {
		return nil, fmt.Errorf("watch mode %q: use fsnotify or off", cfg.Mode)
	}
	if cfg.Excluded == nil {
		cfg.Excluded = func(string, bool) bool { return false }
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = time.Second
	}
	if cfg.RewalkEvery == 0 {
		cfg.RewalkEvery = 30 * time.Second
	}
	w := &Watcher{cfg: cfg, ready: make(chan struct{}), found: make(chan fastsync.Event, 1024), overflow: make(chan time.Time, 1)}
	w.status.Store(&Status{Mode: cfg.Mode})
	return w, nil
}

// Ready is closed when every directory is watched.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Status may be called at any time.
func (w *Watcher) Status() Status { return *w.status.Load() }

// Checkpoint is the time up to which all that was noticed is published, zero
// while that is not known.
func (w *Watcher) Checkpoint() time.Time {
	if ns := w.checkpoint.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

func (w *Watcher) note(change func(*Status)) {
	for {
		old := w.status.Load()
		st := *old
		change(&st)
		if w.status.CompareAndSwap(old, &st) {
			return
		}
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.gather(ctx) })
	if w.cfg.Mode == "off" {
		close(w.ready)
		return g.Wait()
	}
	fs, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		return fmt.Errorf("start watching: %w; raise fs.inotify.max_user_instances, or use --watch off", err)
	}
	errs := make(chan error, 1024)
	g.Go(func() error { return drain(ctx, fs.Errors, errs) })
	g.Go(func() error { defer func() { _ = fs.Close() }(); return newTree(w, fs).run(ctx, errs) })
	g.Go(func() error { return w.recover(ctx) })
	return g.Wait()
}

// drain keeps fsnotify from blocking: it sends errors while it holds a lock
// that Add and Remove need, so this goroutine never calls it.
func drain(ctx context.Context, from <-chan error, to chan<- error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err, ok := <-from:
			if !ok {
				return nil
			}
			select {
			case to <- err:
			default: // the loop is far behind; an overflow among them is told again by a walk
			}
		}
	}
}

// recover catches up after events were lost.
func (w *Watcher) recover(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case since := <-w.overflow:
			if err := w.CatchUp(ctx, since); err != nil && ctx.Err() == nil {
				w.cfg.Log.Error().Err(err).Msg("could not catch up; trying again")
				w.lost(since)
			}
		}
	}
}

// lost asks for a catch-up.
func (w *Watcher) lost(since time.Time) {
	select {
	case w.overflow <- since:
	default: // one is asked for, from an earlier time
	}
}

// CatchUp walks the root for what changed at or after since and publishes it.
// A zero time means everything.
func (w *Watcher) CatchUp(ctx context.Context, since time.Time) error {
	if since.IsZero() {
		return w.emit(ctx, fastsync.Root, fastsync.Tree, fastsync.CatchUp)
	}
	var n int64
	err := w.walk(ctx, fastsync.Root, since, false, &n)
	if err != nil {
		return fmt.Errorf("catch up since %s: %w", since.Format(time.RFC3339), err)
	}
	w.note(func(s *Status) { s.CaughtUp, s.Found = time.Now(), n })
	w.cfg.Log.Info().Int64("paths", n).Time("since", since).Msg("caught up")
	return nil
}

func (w *Watcher) emit(ctx context.Context, path string, scope fastsync.Scope, origin fastsync.Origin) error {
	select {
	case w.found <- fastsync.Event{Change: fastsync.Change{Path: path, Scope: scope}, Origin: origin, At: time.Now()}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// walk looks at one directory. A changed directory in a changed parent may
// have been moved here with children of any age, so it goes as a tree.
func (w *Watcher) walk(ctx context.Context, dir string, since time.Time, parentNew bool, n *int64) error {
	info, err := os.Lstat(w.full(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isNew := !ctime(info).Before(since)
	if isNew {
		*n++
		scope := fastsync.Listing
		if parentNew {
			scope = fastsync.Tree
		}
		if err := w.emit(ctx, dir, scope, fastsync.CatchUp); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(w.full(dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.cfg.Log.Error().Err(err).Str("path", dir).Msg("cannot read a directory; what changed in it is not known")
		return nil
	}
	for _, e := range entries {
		path := join(dir, e.Name())
		if w.cfg.Excluded(path, e.IsDir()) {
			continue
		}
		if e.IsDir() {
			if err := w.walk(ctx, path, since, isNew, n); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil || ctime(info).Before(since) {
			continue
		}
		*n++
		if err := w.emit(ctx, path, fastsync.Entry, fastsync.CatchUp); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watcher) full(path string) string { return filepath.Join(w.cfg.Root, path) }

func join(dir, name string) string {
	if dir == fastsync.Root {
		return name
	}
	return dir + "/" + name
}
