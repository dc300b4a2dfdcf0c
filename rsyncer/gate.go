package rsyncer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/fastsync/fastsync"
)

// gate looks at paths beneath the root, each parent once.
type gate struct {
	root    *os.Root // nil of a root on another host
	parents map[string]parent
	last    *os.Root // the directory of the last look: most come one after the other
	lastDir string
}

// parent is how far a directory's path leads: ok, or stopped at an ancestor
// that is missing, a symlink or another thing, or by an error.
type parent struct {
	stop   string
	mode   fs.FileMode
	absent bool
	err    error
}

// missing tells whether there is nothing of a name, which may be longer than any
// that can be.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

func (r *Rsyncer) openGate() (*gate, error) {
	g := &gate{parents: map[string]parent{}}
	if r.pull {
		return g, nil
	}
	var err error
	g.root, err = r.openRoot()
	return g, err
}

// lstat looks at a path, of which the parents were seen to be directories.
func (g *gate) lstat(p string) (fs.FileInfo, error) {
	dir := path.Dir(p)
	if dir != g.lastDir || g.last == nil {
		if g.last != nil {
			_ = g.last.Close()
		}
		var err error
		if g.last, err = g.root.OpenRoot(dir); err != nil {
			g.last = nil
			return g.root.Lstat(p)
		}
		g.lastDir = dir
	}
	return g.last.Lstat(path.Base(p))
}

func (g *gate) close() {
	if g.last != nil {
		_ = g.last.Close()
	}
	if g.root != nil {
		_ = g.root.Close()
	}
}

func (g *gate) parent(dir string) parent {
	if dir == "." {
		return parent{}
	}
	if known, ok := g.parents[dir]; ok {
		return known
	}
	p := g.parent(path.Dir(dir))
	if p.stop == "" {
		info, err := g.root.Lstat(dir)
		switch {
		case missing(err):
			p = parent{stop: dir, absent: true}
		case err != nil:
			p = parent{stop: dir, err: err}
		case !info.IsDir():
			p = parent{stop: dir, mode: info.Mode()}
		}
	}
	g.parents[dir] = p
	return p
}

// openRoot opens the root if it is the directory of the start and not empty.
func (r *Rsyncer) openRoot() (*os.Root, error) {
	root, err := os.OpenRoot(r.source)
	if err != nil {
		return nil, r.fault(fastsync.Transient, "the source "+r.source+" cannot be opened: mount it or make it readable", err)
	}
	fault := r.checkRoot(root)
	if fault != nil {
		root.Close()
		return nil, fault
	}
	return root, nil
}

func (r *Rsyncer) checkRoot(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return r.fault(fastsync.Transient, "the source "+r.source+" cannot be read: mount it or make it readable", err)
	}
	defer dir.Close()
	if _, err := dir.Readdirnames(1); errors.Is(err, io.EOF) {
		return r.fault(fastsync.Transient, "the source "+r.source+" is empty, as an unmounted disk is: mount it, or put a file there if that is meant", nil)
	} else if err != nil {
		return r.fault(fastsync.Transient, "the source "+r.source+" cannot be read: check its disk", err)
	}
	info, err := dir.Stat()
	if err != nil {
		return r.fault(fastsync.Transient, "the source "+r.source+" cannot be looked at: check its disk", err)
	}
	if !os.SameFile(info, r.root) {
		return r.fault(fastsync.Person, "the source "+r.source+" is another directory than at the start: restart fastsync if that is meant", nil)
	}
	return nil
}
