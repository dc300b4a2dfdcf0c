package watcher

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

// tree keeps one watch on each directory. The loop alone uses it.
//
// inotify knows inodes, fsnotify paths: after a rename both must agree again,
// so the watches of an old name are taken away before the next event is read.
type tree struct {
	w      *Watcher
	log    zerolog.Logger
	kernel *fsnotify.Watcher
	// dirs maps each known directory to the names of the directories in it.
	dirs map[string]map[string]struct{}
	// bare are the known directories that have no watch.
	bare   map[string]*snapshot
	reason string
	// warned is set once the operator was told about missing watches.
	warned bool
}

// found is what a walk of a new directory came across.
type found struct {
	files []string // everything that is not a directory
	any   bool     // the directory was not empty
}

// knows tells whether path is a directory that the tree holds.
func (t *tree) knows(path string) bool { _, ok := t.dirs[path]; return ok }

// forget drops path and all below it, with their watches.
func (t *tree) forget(dir string) {
	for name := range t.dirs[dir] {
		t.forget(path.Join(dir, name))
	}
	if !t.knows(dir) {
		return
	}
	if _, bare := t.bare[dir]; !bare {
		// The kernel has dropped the watch of a deleted directory by itself.
		_ = t.kernel.Remove(t.w.abs(dir))
	}
	delete(t.bare, dir)
	delete(t.dirs, dir)
	if dir != fastsync.Root {
		delete(t.dirs[path.Dir(dir)], path.Base(dir))
	}
}

// add watches dir and all directories below it, each before it is listed, so
// that nothing slips in between.
func (t *tree) add(dir string) found {
	t.forget(dir)
	var f found
	t.grow(dir, &f)
	return f
}

func (t *tree) grow(dir string, f *found) {
	if t.w.cfg.Excluded(dir, true) {
		return
	}
	info, err := os.Lstat(t.w.abs(dir))
	if err != nil || !info.IsDir() {
		return // gone or replaced: its parent's watch tells
	}
	t.watch(dir)
	entries, err := os.ReadDir(t.w.abs(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.log.Warn().Err(err).Str("path", dir).Msg("cannot list a directory; give the agent the right to read it")
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if t.w.cfg.Excluded(p, e.IsDir()) {
			continue
		}
		f.any = true
		if e.IsDir() {
			t.grow(p, f)
		} else {
			f.files = append(f.files, p)
		}
	}
}

// watch puts one watch on dir; without one the directory is bare.
func (t *tree) watch(dir string) {
	err := t.kernel.Add(t.w.abs(dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return
	}
	if t.dirs[dir] == nil {
		t.dirs[dir] = map[string]struct{}{}
	}
	if siblings := t.dirs[path.Dir(dir)]; siblings != nil && dir != fastsync.Root {
		siblings[path.Base(dir)] = struct{}{}
	}
	if err == nil {
		delete(t.bare, dir)
		return
	}
	if t.bare[dir] == nil {
		t.bare[dir] = newSnapshot()
	}
	t.reason = err.Error()
	if errors.Is(err, unix.ENOSPC) {
		t.reason = "the kernel has no watches left; raise sysctl fs.inotify.max_user_watches"
	}
}

// warn tells the operator once about missing watches and how many are needed.
func (t *tree) warn() {
	if len(t.bare) == 0 {
		if t.warned {
			t.log.Info().Int("watched", len(t.dirs)).Msg("recovered: every directory is watched")
		}
		t.warned, t.reason = false, ""
		return
	}
	if !t.warned {
		t.log.Warn().Int("unwatched", len(t.bare)).Int("needed", len(t.dirs)).Str("reason", t.reason).
			Dur("every", t.w.cfg.RewalkEvery).
			Msg("some directories are not watched and are walked on a timer; raise sysctl fs.inotify.max_user_watches above the number needed")
	}
	t.warned = true
}
