package watcher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastsync/fastsync"
)

// tree keeps a watch on every directory. Its run method owns all of it.
type tree struct {
	w         *Watcher
	fs        *fsnotify.Watcher
	dirs      map[string]bool
	unwatched int
	good      time.Time // everything before it was seen
}

func newTree(w *Watcher, fs *fsnotify.Watcher) *tree {
	return &tree{w: w, fs: fs, dirs: map[string]bool{}}
}

func (t *tree) run(ctx context.Context, errs <-chan error) error {
	t.good = time.Now()
	t.add(ctx, fastsync.Root, false)
	t.tell()
	close(t.w.ready)
	rewalk := time.NewTicker(t.w.cfg.RewalkEvery)
	defer rewalk.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-t.fs.Events:
			t.take(ctx, e)
		case err := <-errs:
			t.fault(err)
		case <-rewalk.C:
			t.again(ctx)
		}
	}
}

// again makes sure of the root, and walks while some directories are unwatched.
func (t *tree) again(ctx context.Context) {
	if t.unwatched == 0 && len(t.fs.WatchList()) > 0 {
		return
	}
	begun := time.Now()
	for dir := range t.dirs {
		_ = t.fs.Remove(t.w.full(dir))
	}
	clear(t.dirs)
	t.unwatched = 0
	t.add(ctx, fastsync.Root, false)
	t.tell()
	t.w.lost(t.good.Add(-2 * time.Second))
	t.good = begun
}

func (t *tree) tell() {
	t.w.note(func(s *Status) {
		s.Directories, s.Unwatched = int64(len(t.dirs)), ""
		if t.unwatched > 0 {
			s.Unwatched = "the limit of inotify watches is reached: raise fs.inotify.max_user_watches; the rest is walked every " + t.w.cfg.RewalkEvery.String()
		}
		if len(t.dirs) == 0 {
			s.Unwatched = "the root cannot be watched: is it there and mounted?"
		}
	})
}

func (t *tree) fault(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		t.w.cfg.Log.Warn().Msg("the kernel dropped events; catching up")
		t.w.lost(t.good.Add(-2 * time.Second))
		t.unwatched = max(t.unwatched, 1) // new directories may have been missed
		return
	}
	if !errors.Is(err, syscall.EINVAL) { // comes with each rename and removal of a watched directory
		t.w.cfg.Log.Warn().Err(err).Msg("fsnotify reported a fault")
	}
}

// add watches a directory, then looks at what is in it already. Below a new
// one everything is reported: it came before the watch.
func (t *tree) add(ctx context.Context, dir string, isNew bool) {
	full := t.w.full(dir)
	info, err := os.Lstat(full)
	if err != nil || !info.IsDir() {
		return
	}
	if err := t.fs.Add(full); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			if t.unwatched == 0 {
				t.w.cfg.Log.Error().Err(err).Str("path", dir).Msg("cannot watch a directory; it is walked instead: raise fs.inotify.max_user_watches")
			}
			t.unwatched++
		}
	} else {
		t.dirs[dir] = true
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := join(dir, e.Name())
		if t.w.cfg.Excluded(path, e.IsDir()) {
			continue
		}
		if isNew {
			_ = t.w.emit(ctx, path, fastsync.Entry, fastsync.Watch)
		}
		if e.IsDir() {
			t.add(ctx, path, isNew)
		}
	}
}

func (t *tree) take(ctx context.Context, e fsnotify.Event) {
	rel, err := filepath.Rel(t.w.cfg.Root, e.Name)
	if err != nil || !filepath.IsLocal(rel) {
		return
	}
	known := t.dirs[rel]
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		if known {
			t.forget(rel)
			t.tell()
		}
		if rel == fastsync.Root {
			return
		}
	}
	info, err := os.Lstat(e.Name)
	isDir := err == nil && info.IsDir()
	if rel == fastsync.Root || t.w.cfg.Excluded(rel, isDir || known) {
		return
	}
	_ = t.w.emit(ctx, rel, fastsync.Entry, fastsync.Watch)
	if isDir && !t.dirs[rel] {
		t.add(ctx, rel, true)
		t.tell()
	}
	if len(t.fs.Events) == 0 {
		t.good = time.Now()
	}
}

// forget drops the watches of a whole subtree before the next event is read:
// they would go on under the old name.
func (t *tree) forget(dir string) {
	for known := range t.dirs {
		if known == dir || strings.HasPrefix(known, dir+"/") || dir == fastsync.Root {
			delete(t.dirs, known)
			_ = t.fs.Remove(t.w.full(known))
		}
	}
}
