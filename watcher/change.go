package watcher

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastsync/fastsync"
)

// what is a set of the things that the kernel saw happen to a path. It merges
// them, so the disk alone tells which came last.
type what uint8

const (
	made    what = 1 << iota // it is new by its name, created or moved here
	movedIn                  // it was moved here; only fanotify tells
	gone                     // it was removed or moved away
	written
	closed  // a writer has closed it, who may have written nothing; only fanotify tells
	attrib  // its mode, owner or times
	removed // of gone: not moved away
)

// change is what a backend tells the loop.
type change struct {
	path string // below the root
	what what
	dir  bool // the kernel says that it is a directory; inotify never does
}

// ofInotify is false for an event that is not below root.
func ofInotify(root string, e fsnotify.Event) (change, bool) {
	p, err := filepath.Rel(root, e.Name)
	if err != nil || p == ".." || strings.HasPrefix(p, "../") {
		return change{}, false
	}
	c := change{path: p}
	for _, m := range [...]struct {
		op   fsnotify.Op
		what what
	}{{fsnotify.Create, made}, {fsnotify.Remove, gone | removed}, {fsnotify.Rename, gone}, {fsnotify.Write, written}, {fsnotify.Chmod, attrib}} {
		if e.Has(m.op) {
			c.what |= m.what
		}
	}
	return c, true
}

// takeDir handles an event of what is a directory now.
func (l *loop) takeDir(c change) {
	switch {
	case l.fan != nil && c.what&movedIn != 0:
		l.put(c.path, fastsync.Tree) // the files in it that are open tell when they are closed
	case l.fan != nil && c.what&made != 0:
		l.born(c.path, time.Now())
		l.putMade(c.path, l.good)
	case l.fan != nil, l.tree.knows(c.path) && c.what&made == 0:
		l.put(c.path, fastsync.Entry) // it has another mode or owner
	default:
		l.born(c.path, time.Now())
		l.enter(c.path, l.good)
	}
}
