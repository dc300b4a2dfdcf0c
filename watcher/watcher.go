// Package watcher notices what changes below a root and publishes where to
// look: one event per finished write, at once.
//
// It watches each directory with inotify, or the root's whole file system with
// one fanotify mark, which costs the same however many directories there are.
// Where it cannot be sure (start, an overflow of the kernel's queue, a root that
// went away and came back) it catches up: a walk that only stats, for what has
// a new ctime. Directories that inotify has no watches left for are walked on a
// timer.
//
// It promises that each change below the root gives an event at or after the
// change, and that a regular file gives none while a writer has it open. It
// does not promise that events are unique, nor that it sees writers through
// mmap or other hosts of a network file system: a sweep is for these.
package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
)

// Modes of a Watcher.
const (
	// Fsnotify watches every directory with inotify.
	Fsnotify = "fsnotify"
	// Fanotify watches the file system of the root by one mark; see [Probe].
	Fanotify = "fanotify"
	// Off watches nothing; CatchUp works all the same.
	Off = "off"
)

// Publisher takes events. It keeps trying by itself: an error means that ctx ended.
type Publisher interface {
	Publish(ctx context.Context, events ...fastsync.Event) error
}

// Config is what a Watcher needs.
type Config struct {
	// Root is the directory to watch.
	Root      string
	Publisher Publisher
	// Excluded tells whether a path is left out, by itself or with a directory
	// above it; nil leaves nothing out.
	Excluded func(path string, dir bool) bool
	// Mode is Fsnotify, Fanotify or Off; empty means Fsnotify.
	Mode string
	// Fallback lets inotify take over when fanotify cannot go on: something is
	// mounted below the root, or the root comes back on another file system.
	Fallback bool
	// Quiet is how long a file must not change before it counts as finished
	// where the kernel does not tell whether it is open. 0 means 1 s.
	Quiet time.Duration
	// RewalkEvery is the time between walks of directories without a watch. 0 means 30 s.
	RewalkEvery time.Duration
	Log         zerolog.Logger

	// mostOpen and most bound what is kept; tests make them small.
	mostOpen, most int
	// slack is how much earlier than asked for a catch-up looks, for clocks
	// that tick coarsely; tests that compare sets make it 0.
	slack time.Duration
	// mostPlaces is how many directories fanotify remembers; shortQueue lets
	// the kernel drop its events beyond some thousands. Both are for tests.
	mostPlaces int
	shortQueue bool
}

// Status is how a Watcher fares.
type Status struct {
	// Mode is the kind of watch at present. Fallback says why it is not the one
	// that the Watcher was started with.
	Mode     string `json:"mode"`
	Fallback string `json:"fallback,omitempty"`
	// Watched and Unwatched count directories. Under fanotify Watched is 0: the
	// whole file system is watched, and nobody counts what is in it; Unwatched
	// counts what is mounted below the root. Reason says why some are unwatched.
	Watched   int    `json:"watched"`
	Unwatched int    `json:"unwatched"`
	Reason    string `json:"reason,omitempty"`
	// RootError says what is wrong with the root; empty while all is well.
	RootError string `json:"root_error,omitempty"`
	// Pending counts files that wait for their writer to close them.
	Pending int `json:"pending"`
	// Checkpoint: each change before it was published. Zero until the first
	// catch-up is done, and always in mode Off.
	Checkpoint time.Time `json:"checkpoint"`
	// CatchUpAt is when the last catch-up ended, CatchUpTook how long it ran,
	// CatchUpFound how many events it published.
	CatchUpAt    time.Time     `json:"catchup_at"`
	CatchUpTook  time.Duration `json:"catchup_took"`
	CatchUpFound int           `json:"catchup_found"`
}

// Watcher watches one root. Run is called once; the other methods may be
// called from any goroutine.
type Watcher struct {
	cfg   Config
	ready chan struct{}
	// started and ended are closed when Run is; between them it answers asked.
	started, ended chan struct{}
	asked          chan chan<- Status
	blind          blind
	// faults stands in for the kernel's errors in tests.
	faults chan error
	// handed wakes the loop for the paths in open.
	handed chan struct{}

	// The mutex is for what CatchUp and Status share with the loop: they run
	// in goroutines of the caller, also while Run does not.
	mu     sync.Mutex
	open   []opened
	missed time.Time // the oldest that open had no room for
	status Status
	// owed holds, by number, since when catch-ups look that are not done;
	// caught says that one was done.
	owed   map[int]time.Time
	walks  int
	caught bool
}

// New checks cfg and returns all its faults. It starts nothing.
func New(cfg Config) (*Watcher, error) {
	var faults []error
	if cfg.Mode == "" {
		cfg.Mode = Fsnotify
	}
	if cfg.Mode != Fsnotify && cfg.Mode != Fanotify && cfg.Mode != Off {
		faults = append(faults, fmt.Errorf("watch mode %q: want %s, %s or %s", cfg.Mode, Fsnotify, Fanotify, Off))
	}
	if cfg.Publisher == nil {
		faults = append(faults, errors.New("watcher: no publisher"))
	}
	root, err := filepath.Abs(cfg.Root)
	if err == nil {
		// A root that is a link is watched where it leads.
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil || cfg.Root == "" {
		faults = append(faults, fmt.Errorf("root %q: %w; name a directory that exists", cfg.Root, errors.Join(err, os.ErrInvalid)))
	} else if info, err := os.Stat(root); err != nil || !info.IsDir() {
		faults = append(faults, fmt.Errorf("root %q is not a directory that can be read; name one", cfg.Root))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	cfg.Root = root
	if cfg.Excluded == nil {
		cfg.Excluded = func(string, bool) bool { return false }
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = time.Second
	}
	if cfg.RewalkEvery == 0 {
		cfg.RewalkEvery = 30 * time.Second
	}
	cfg.mostOpen, cfg.most, cfg.slack, cfg.mostPlaces = mostOpen, most, margin, mostPlaces
	return &Watcher{
		cfg: cfg, ready: make(chan struct{}), handed: make(chan struct{}, 1),
		started: make(chan struct{}), ended: make(chan struct{}), asked: make(chan chan<- Status),
		owed: map[int]time.Time{}, status: Status{Mode: cfg.Mode},
	}, nil
}

// Ready is closed when the file system or every directory is watched, or known as one that
// cannot be. What changes after that gives an event.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Run watches until ctx ends and then returns nil. Its only other errors are
// that the kernel gives no inotify instance, or that fanotify cannot watch the
// root and may not fall back.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	l := newLoop(w, &running)
	close(w.started)
	defer close(w.ended)
	if w.cfg.Mode == Off {
		return l.run(ctx, nil, nil)
	}
	if w.cfg.Mode == Fanotify {
		if err := l.byFanotify(ctx); err == nil || !w.cfg.Fallback {
			return err
		}
	}
	return l.byInotify(ctx)
}

func (l *loop) byInotify(ctx context.Context) error {
	kernel, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("make an inotify instance: %w; raise sysctl fs.inotify.max_user_instances or end other watchers", err)
	}
	defer kernel.Close()
	l.tree.kernel = kernel
	defer l.echo.close()
	l.running.Go(func() { l.w.drain(ctx, kernel.Errors, l.overflow) })
	l.begin()
	return l.run(ctx, kernel.Events, nil)
}

// mode is the kind of watch at present.
func (w *Watcher) mode() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.Mode
}

// drain reads the kernel's errors for as long as ctx lives. It never calls
// the fsnotify watcher, which holds its lock while it sends an error.
func (w *Watcher) drain(ctx context.Context, faults <-chan error, overflow chan<- struct{}) {
	for {
		var err error
		var ok bool
		select {
		case <-ctx.Done():
			return
		case err, ok = <-faults:
		case err, ok = <-w.faults:
		}
		if !ok {
			return
		}
		if !errors.Is(err, fsnotify.ErrEventOverflow) {
			// "mv a b; rmdir b" gives an EINVAL that means nothing.
			w.cfg.Log.Debug().Err(err).Msg("inotify reports an error")
			continue
		}
		select {
		case overflow <- struct{}{}:
		default: // one catch-up is already due, and it has not begun
		}
	}
}

// hand gives the loop files to publish when their writers close them. It does
// not wait, so that a catch-up can run before or without Run.
func (w *Watcher) hand(files []opened) {
	if len(files) == 0 {
		return
	}
	w.mu.Lock()
	for _, f := range files {
		if len(w.open) < w.cfg.mostOpen {
			w.open = append(w.open, f)
		} else if w.missed.IsZero() || f.since.Before(w.missed) {
			w.missed = f.since
		}
	}
	w.mu.Unlock()
	select {
	case w.handed <- struct{}{}:
	default:
	}
}

func (w *Watcher) abs(path string) string { return filepath.Join(w.cfg.Root, path) }

// rel is the opposite of abs; the result shares the memory of abs.
func (w *Watcher) rel(abs string) string {
	if abs == w.cfg.Root {
		return fastsync.Root
	}
	return strings.TrimPrefix(abs[len(w.cfg.Root):], "/")
}
