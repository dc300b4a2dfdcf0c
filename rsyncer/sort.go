package rsyncer

import (
	"io/fs"
	"path"
	"time"

	"github.com/fastsync/fastsync"
)

// sorter looks at changes' paths and puts each where it belongs: into a run's
// list, or, if it needs no run, into the outcome.
type sorter struct {
	r      *Rsyncer
	gate   *gate
	lane   fastsync.Lane
	remove bool // what is gone goes at the target too
	whole  bool // directories as they are: nothing ships
	near   *neighbour
	most   int // about how many jobs are enough at a time; 0 for any number
	begun  time.Time
	to     groups
	out    *fastsync.Outcome
}

// sort looks at each change's path, and returns those that it left because
// there is enough for a run. The sorter tells the rest.
func (s *sorter) sort(changes []fastsync.Change) (left []fastsync.Change, err error) {
	if s.gate, err = s.r.openGate(); err != nil {
		return nil, err
	}
	defer s.gate.close()
	for i, c := range changes {
		if s.most > 0 && s.to.len() >= s.most {
			left = changes[i:]
			break
		}
		if err := fastsync.CheckPath(c.Path); err != nil {
			s.fail(c, err.Error())
			continue
		}
		if s.r.pull {
			s.placeRemote(c)
			continue
		}
		if reason := s.place(c); reason != "" {
			s.fail(c, reason)
		}
	}
	if !s.r.pull && !s.remove {
		s.to.merge()
	}
	if g := s.to[2*int(entries)]; g != nil && !s.r.pull && !s.whole {
		s.gather(g)
	}
	return left, nil
}

func (s *sorter) fail(c fastsync.Change, reason string) {
	s.out.Failed = append(s.out.Failed, fastsync.Failure{Change: c, Reason: reason})
}

// put places a change, unless another run has the path, or lists the directory
// that it is in.
func (s *sorter) put(k kind, p string, c fastsync.Change, info fs.FileInfo) {
	if !s.near.free(path.Dir(p), p, info) || !s.near.take(p) {
		s.out.Waits = append(s.out.Waits, c)
		return
	}
	s.to.add(k, p, c, info)
}

// gone places a change of which nothing is left from path at on.
func (s *sorter) gone(at string, c fastsync.Change) {
	switch f := s.r.cfg.Filter; {
	case f.Excluded(c.Path, false) || f.Excluded(c.Path, true):
	case !s.remove:
		s.out.Kept++
	default:
		s.put(deletes, at, c, nil)
	}
}

// place returns why a change cannot be shipped, or "".
func (s *sorter) place(c fastsync.Change) string {
	f := s.r.cfg.Filter
	switch p := s.gate.parent(path.Dir(c.Path)); {
	case p.err != nil:
		return "look at its directory: " + p.err.Error()
	case p.absent, p.stop != "" && !s.remove:
		s.gone(p.stop, c)
		return ""
	case p.stop != "":
		// What is below it at the target goes when the file or link takes the directory's place.
		if (p.mode.IsRegular() || p.mode&fs.ModeSymlink != 0) && !f.Excluded(p.stop, false) {
			s.put(entries, p.stop, c, nil)
		}
		return ""
	}
	info, err := s.gate.lstat(c.Path)
	switch {
	case missing(err):
		s.gone(c.Path, c)
	case err != nil:
		return "look at it: " + err.Error()
	case f.Excluded(c.Path, info.IsDir()):
	case info.IsDir():
		s.placeDir(c, info)
	case info.Mode().IsRegular():
		s.placeFile(c, info)
	case info.Mode()&fs.ModeSymlink != 0:
		s.put(entries, c.Path, c, info)
	}
	return ""
}

func (s *sorter) placeFile(c fastsync.Change, info fs.FileInfo) {
	switch {
	case s.r.beingWritten(c.Path):
		s.out.Again = append(s.out.Again, c)
	case s.lane == fastsync.Live && info.Size() > maxLiveSize:
		s.out.Bulk = append(s.out.Bulk, c)
	default:
		s.put(entries, c.Path, c, info)
	}
}

// placeRemote sorts without a look: only the other host knows what a path is.
func (s *sorter) placeRemote(c fastsync.Change) {
	switch {
	case s.r.cfg.Filter.Excluded(c.Path, c.Scope == fastsync.Listing || c.Scope == fastsync.Tree):
	case s.lane == fastsync.Live && c.Scope == fastsync.Tree:
		s.out.Bulk = append(s.out.Bulk, c)
	default:
		s.to.add(scopeKind(c), c.Path, c, nil)
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
