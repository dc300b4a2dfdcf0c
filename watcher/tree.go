package watcher

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

// stride is how many directories get their watches before the loop looks for
// events again, about a millisecond.
const stride = 50

// tree keeps one watch on each directory. The loop alone uses it.
//
// inotify knows inodes, fsnotify paths: after a rename both must agree again,
// so the watches of an old name are taken away before the next event is read.
type tree struct {
	w      *Watcher
	log    zerolog.Logger
	kernel *fsnotify.Watcher
	// known holds the directories.
	known nodes
	// bare are the known directories that have no watch.
	bare   map[string]*snapshot
	reason string
	// warned is set once the operator was told about missing watches.
	warned bool
	// walks are not done yet; the last is worked on.
	walks []*walk
	list  lister
	// scarce is set once no descriptor was left to list a directory with, until
	// one was: the walks go on by time then.
	scarce bool
}

// walk watches a directory and all below it, each before it is listed, so that
// nothing slips in between.
type walk struct {
	began time.Time // no earlier than this is what it is for
	// dir is published when all below it is watched; empty where a catch-up follows.
	dir  string
	any  bool     // dir was not empty
	todo []string // absolute paths of directories without a watch
	// file is called for what is in the directories and no directory; nil for none.
	file  func(path string)
	paths strings.Builder // todo's strings are pieces of what it holds
	made  int             // how many of them
}

func newTree(w *Watcher) *tree {
	return &tree{w: w, log: w.cfg.Log, known: newNodes(), bare: map[string]*snapshot{}}
}

// knows tells whether path is a directory that the tree holds.
func (t *tree) knows(path string) bool { return t.known.has(path) }

// forget drops path and all below it, with their watches.
func (t *tree) forget(dir string) {
	t.known.remove(dir, func(dir string) {
		if _, bare := t.bare[dir]; bare {
			delete(t.bare, dir)
			return
		}
		// The kernel has dropped the watch of a deleted directory by itself.
		_ = t.kernel.Remove(t.w.abs(dir))
	})
}

// add begins a walk of what is below dir now; step does it.
func (t *tree) add(k *walk, dir string) {
	t.forget(dir)
	if !t.w.cfg.Excluded(dir, true) {
		k.todo = []string{t.w.abs(dir)}
	}
	t.walks = append(t.walks, k)
}

// addRoot begins a walk of everything, which does what other walks had still
// to do; it returns when the oldest of those began.
func (t *tree) addRoot() time.Time {
	oldest := t.walking(time.Now())
	t.walks = nil
	t.add(&walk{began: time.Now()}, fastsync.Root)
	return oldest
}

// walking is when the oldest walk began that is not done, at most now.
func (t *tree) walking(now time.Time) time.Time {
	for _, k := range t.walks {
		if k.began.Before(now) {
			now = k.began
		}
	}
	return now
}

// step watches some directories and returns the walk that it ended, if any.
func (t *tree) step() *walk {
	k := t.walks[len(t.walks)-1]
	for range stride {
		last := len(k.todo) - 1
		if last < 0 {
			t.walks = t.walks[:len(t.walks)-1]
			t.warn()
			return k
		}
		abs := k.todo[last]
		k.todo = k.todo[:last]
		if t.grow(k, abs); t.scarce {
			break
		}
	}
	return nil
}

// grow watches one directory and notes what is in it.
func (t *tree) grow(k *walk, abs string) {
	dir := t.w.rel(abs)
	if t.knows(dir) {
		t.known.add(dir) // its parent may be newer
		return
	}
	if dir != fastsync.Root && dir != k.dir && !t.knows(path.Dir(dir)) {
		return // its parent has lost its name, and with it this one
	}
	if !t.watch(abs) {
		return // gone: its parent's watch tells
	}
	err := t.list.each(abs, func(_ int, name []byte, kind uint8) bool {
		// The string is kept by the kernel's watcher and by the tree, in one piece.
		switch isDir := kind == unix.DT_DIR; {
		case !isDir && k.file == nil:
		case !isDir:
			p := path.Join(dir, string(name))
			if !t.w.cfg.Excluded(p, false) {
				k.any = true
				k.file(p)
			}
		default:
			sub := k.join(abs, name)
			if !t.w.cfg.Excluded(t.w.rel(sub), true) {
				k.any = true
				k.todo = append(k.todo, sub)
			}
		}
		return true
	})
	if t.lack(err) {
		t.forget(dir)
		k.todo = append(k.todo, abs)
		return
	}
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		t.forget(dir) // a link has taken its name since
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		t.log.Warn().Err(err).Str("path", dir).Msg("cannot list a directory; give the agent the right to read it")
	}
}

// lack notes whether there were descriptors, and tells when it changes.
func (t *tree) lack(err error) bool {
	was := t.scarce
	switch t.scarce = lease.Exhausted(err); {
	case t.scarce && !was:
		t.log.Error().Err(err).Msg("no directory can be listed, and new ones wait; raise the limit of open files, LimitNOFILE")
	case !t.scarce && was:
		t.log.Info().Msg("recovered: directories can be listed again")
	}
	return t.scarce
}

// starved tells whether walks wait for descriptors.
func (t *tree) starved() bool { return t.scarce && len(t.walks) > 0 }

// watch puts one watch on a directory; without one it is bare. It tells
// whether there is such a directory.
func (t *tree) watch(abs string) bool {
	err := t.kernel.Add(abs)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false
	}
	dir := t.w.rel(abs)
	t.known.add(dir)
	if err == nil {
		delete(t.bare, dir)
		return true
	}
	if t.bare[dir] == nil {
		t.bare[dir] = newSnapshot()
	}
	t.reason = err.Error()
	if errors.Is(err, unix.ENOSPC) {
		t.reason = "the kernel has no watches left; raise sysctl fs.inotify.max_user_watches"
	}
	return true
}

// warn tells the operator once about missing watches and how many are needed.
func (t *tree) warn() {
	if len(t.bare) == 0 {
		if t.warned {
			t.log.Info().Int("watched", t.known.count).Msg("recovered: every directory is watched")
		}
		t.warned, t.reason = false, ""
		return
	}
	if !t.warned {
		t.log.Warn().Int("unwatched", len(t.bare)).Int("needed", t.known.count).Str("reason", t.reason).
			Dur("every", t.w.cfg.RewalkEvery).
			Msg("some directories are not watched and are walked on a timer; raise sysctl fs.inotify.max_user_watches above the number needed")
	}
	t.warned = true
}

// join makes an absolute path. Those of a large walk share blocks of 1 kB: alone
// each takes a tenth more, and leaves holes between the garbage of its day.
func (k *walk) join(dir string, name []byte) string {
	size := len(dir) + 1 + len(name)
	if k.paths.Cap()-k.paths.Len() < size {
		k.paths.Reset()
		k.paths.Grow(max(size, min(k.made*size, 1<<10)))
	}
	k.made++
	from := k.paths.Len()
	k.paths.WriteString(dir)
	if dir != "/" {
		k.paths.WriteByte('/')
	}
	k.paths.Write(name)
	return k.paths.String()[from:]
}
