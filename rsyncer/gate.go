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

// job is a path of a run's list, and the changes that it settles.
type job struct {
	path    string
	changes []fastsync.Change
	before  os.FileInfo // of an entry that is a regular file, else nil
	dir     bool        // as the gate saw it
	alone   bool        // nothing below it, also in a run of listings or trees
}

// group is a list of jobs for runs of one kind.
type group struct {
	kind     kind
	released bool
	jobs     []job
	at       map[string]int // path → place in jobs: no path twice in a list
}

// groups in the order of their runs: deletions last, so that a file moved from
// one place to another is never at neither.
type groups [8]*group

// add puts the job for p, which settles c, where its kind belongs.
func (g *groups) add(k kind, p string, c fastsync.Change, info os.FileInfo) {
	slot := int(k) * 2
	if c.Released {
		slot++
	}
	if g[slot] == nil {
		g[slot] = &group{kind: k, released: c.Released, at: map[string]int{}}
	}
	j := job{path: p, changes: []fastsync.Change{c}}
	switch {
	case info == nil:
	case info.IsDir():
		j.dir = true
	case info.Mode().IsRegular():
		j.before = info
	}
	g[slot].add(j)
}

func (g *group) add(j job) {
	if i, ok := g.at[j.path]; ok {
		g.jobs[i].changes = append(g.jobs[i].changes, j.changes...)
		return
	}
	g.at[j.path] = len(g.jobs)
	g.jobs = append(g.jobs, j)
}

// merge lets entries ride in the runs of trees and listings: each run costs a
// login. Not with deletions: one unreadable file would keep rsync from deleting
// anything in its run.
func (g *groups) merge() {
	from, flat, deep := g[2*int(entries)], g[2*int(listings)], g[2*int(trees)]
	if from == nil {
		return
	}
	rest := &group{kind: entries, at: map[string]int{}}
	implied := map[string]string{} // directory → a file below it in deep
	for _, j := range from.jobs {
		j.alone = true
		switch {
		case deep != nil && !j.dir: // a directory would go with all below it
			deep.add(j)
			for dir := path.Dir(j.path); j.before != nil && dir != "." && implied[dir] == ""; dir = path.Dir(dir) {
				implied[dir] = j.path
			}
		case flat != nil:
			flat.add(j)
		default:
			rest.add(j)
		}
	}
	rest.imply(deep, implied)
	g[2*int(entries)] = rest
	if len(rest.jobs) == 0 {
		g[2*int(entries)] = nil
	}
}

// imply moves directories to the jobs of files in them: with --relative rsync
// sends the directories of a listed path too. Should the file be gone by then,
// its job goes round again and they with it.
func (g *group) imply(into *group, files map[string]string) {
	kept := g.jobs[:0]
	for _, j := range g.jobs {
		if file, ok := files[j.path]; ok {
			into.add(job{path: file, changes: j.changes})
			continue
		}
		kept = append(kept, j)
	}
	g.jobs = kept
}

// gate looks at paths beneath the root, each parent once.
type gate struct {
	root    *os.Root // nil of a root on another host
	parents map[string]parent
}

// parent is how far a directory's path leads: ok, or stopped at an ancestor
// that is missing, a symlink or another thing, or by an error.
type parent struct {
	stop   string
	mode   fs.FileMode
	absent bool
	err    error
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

func (g *gate) close() {
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
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
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

// sort looks at each change's path and puts it where it belongs. What needs no
// run goes to the outcome.
func (r *Rsyncer) sort(changes []fastsync.Change, out *fastsync.Outcome, remove bool) (groups, error) {
	var to groups
	g, err := r.openGate()
	if err != nil {
		return to, err
	}
	defer g.close()
	for _, c := range changes {
		if err := fastsync.CheckPath(c.Path); err != nil {
			out.Failed = append(out.Failed, fastsync.Failure{Change: c, Reason: err.Error()})
			continue
		}
		if r.pull {
			r.placeRemote(c, &to)
			continue
		}
		if reason := r.place(g, c, &to, out, remove); reason != "" {
			out.Failed = append(out.Failed, fastsync.Failure{Change: c, Reason: reason})
		}
	}
	if !r.pull && !remove {
		to.merge()
	}
	return to, nil
}

// place returns why a change cannot be shipped, or "".
func (r *Rsyncer) place(g *gate, c fastsync.Change, to *groups, out *fastsync.Outcome, remove bool) string {
	gone := func(at string) string {
		switch {
		case r.cfg.Filter.Excluded(c.Path, false) || r.cfg.Filter.Excluded(c.Path, true):
		case !remove:
			out.Kept++
		default:
			to.add(deletes, at, c, nil)
		}
		return ""
	}
	switch p := g.parent(path.Dir(c.Path)); {
	case p.err != nil:
		return "look at its directory: " + p.err.Error()
	case p.absent:
		return gone(p.stop)
	case p.stop != "":
		// What is below it at the target goes when the file or link takes the directory's place.
		if !remove {
			return gone(p.stop)
		}
		if (p.mode.IsRegular() || p.mode&fs.ModeSymlink != 0) && !r.cfg.Filter.Excluded(p.stop, false) {
			to.add(entries, p.stop, c, nil)
		}
		return ""
	}
	info, err := g.root.Lstat(c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return gone(c.Path)
	case err != nil:
		return "look at it: " + err.Error()
	case r.cfg.Filter.Excluded(c.Path, info.IsDir()):
	case info.IsDir():
		to.add(scopeKind(c), c.Path, c, info)
	case info.Mode().IsRegular() && r.beingWritten(c.Path):
		out.Again = append(out.Again, c)
	case info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0:
		to.add(entries, c.Path, c, info)
	}
	return ""
}

// placeRemote sorts without a look: only the other host knows what a path is.
func (r *Rsyncer) placeRemote(c fastsync.Change, to *groups) {
	if !r.cfg.Filter.Excluded(c.Path, c.Scope == fastsync.Listing || c.Scope == fastsync.Tree) {
		to.add(scopeKind(c), c.Path, c, nil)
	}
}

func scopeKind(c fastsync.Change) kind {
	switch {
	case c.Scope == fastsync.Tree:
		return trees
	case c.Scope == fastsync.Listing || c.Path == fastsync.Root: // rsync cannot send the root alone
		return listings
	}
	return entries
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
