package rsyncer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

const (
	// maxLiveSize is the largest file in bytes that the live lane ships.
	maxLiveSize = 64 << 20
	// maxLiveTree is the most that a directory may hold for the live lane.
	maxLiveTree = 1000
	// maxOpen bounds the files that a run is told to leave out.
	maxOpen = 1000
	// settled is for how long a file of a large tree must not have changed for
	// nobody to be asked whether it is open: who writes to it now gives an event.
	settled = 24 * time.Hour
	// maxRecent bounds the files of a run that were new when it was looked at.
	maxRecent = 100_000
	// tick is how much a file system's clock may be behind this one.
	tick = 2 * time.Second
)

var (
	errEnough = errors.New("enough seen")
	// errUnread says that all but something unreadable was seen.
	errUnread = errors.New("not all can be read")
)

// survey looks at what is in a directory, and with deep below it, and calls
// each for what is not left out. It reads names only; attributes are up to each.
// What is gone is passed over, so is what is unreadable, with errUnread in the end;
// what cannot be read now ends it.
func (r *Rsyncer) survey(dir string, deep bool, each func(p string, entry fs.DirEntry) error) error {
	f, err := os.OpenFile(r.source+dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return passing(err)
	}
	var below []string // entered once this one is closed: a deep tree must not take a descriptor for each level
	err = r.list(f, dir, func(p string, entry fs.DirEntry) error {
		if deep && entry.IsDir() {
			below = append(below, p)
		}
		return each(p, entry)
	})
	f.Close()
	for _, p := range below {
		if err != nil && !errors.Is(err, errUnread) {
			return err
		}
		err = cmp.Or(r.survey(p, deep, each), err)
	}
	return err
}

// list calls each for what is in an open directory and not left out.
func (r *Rsyncer) list(f *os.File, dir string, each func(p string, entry fs.DirEntry) error) error {
	for {
		names, err := f.ReadDir(1000)
		for _, entry := range names {
			p := path.Join(dir, entry.Name())
			if r.cfg.Filter.Excluded(p, entry.IsDir()) {
				continue
			}
			if err := each(p, entry); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return passing(err)
		}
	}
}

// passing returns nil for what is gone, or is no directory any more, and an error
// that is about this moment alone. Of any other rsync says so by name, if it is to
// read there.
func passing(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return nil
	case lease.Exhausted(err):
		return err
	}
	return fmt.Errorf("%w: %w", errUnread, err)
}

// placeDir places a directory with what its change covers. What the live lane
// ships of it goes file by file, each asked for its writer; what the bulk lane
// ships goes as a whole, without the files that are open. Where rsync is kept from
// them, they need not be looked for.
func (s *sorter) placeDir(c fastsync.Change, info fs.FileInfo) {
	switch k := scopeKind(c); {
	case k == entries || s.whole:
		s.put(k, c.Path, c, info)
	case s.lane == fastsync.Live:
		s.placeSmall(c, info, k == trees)
	default:
		s.placeLarge(c, info, k)
	}
}

func (s *sorter) placeSmall(c fastsync.Change, info fs.FileInfo, deep bool) {
	type entry struct {
		path string
		info fs.FileInfo
	}
	var found []entry
	err := s.r.survey(c.Path, deep, func(p string, e fs.DirEntry) error {
		info, err := e.Info()
		if err != nil {
			return passing(err)
		}
		if len(found) >= maxLiveTree || info.Mode().IsRegular() && info.Size() > maxLiveSize {
			return errEnough
		}
		found = append(found, entry{p, info})
		return nil
	})
	if err != nil { // of what is unreadable a list of files would not tell
		s.out.Bulk = append(s.out.Bulk, c)
		return
	}
	if c.Path != fastsync.Root { // which rsync cannot send alone
		s.to.add(entries, c.Path, c, info)
	}
	asks := s.r.asks()
	for _, e := range found {
		switch {
		case asks && e.info.Mode().IsRegular() && s.r.beingWritten(e.path), !s.near.take(e.path):
			s.out.Again = append(s.out.Again, fastsync.Change{Path: e.path, Scope: fastsync.Entry})
		case e.info.IsDir() || e.info.Mode().IsRegular() || e.info.Mode()&fs.ModeSymlink != 0:
			s.to.add(entries, e.path, c, e.info)
		}
	}
	switch {
	case !s.remove:
	case deep:
		s.to.add(treePrunes, c.Path, c, info)
	default:
		s.to.add(listingPrunes, c.Path, c, info)
	}
}

func (s *sorter) placeLarge(c fastsync.Change, info fs.FileInfo, k kind) {
	var open []string
	recent := map[string]time.Time{}
	asks := s.r.asks()
	err := s.r.survey(c.Path, k == trees, func(p string, e fs.DirEntry) error {
		at, ok := changeOf(e)
		if !ok || s.begun.Sub(at) > settled {
			return nil
		}
		if asks && s.r.beingWritten(p) {
			open = append(open, p)
		} else if at.After(s.begun.Add(-tick)) && len(recent) < maxRecent {
			recent[p] = at
		}
		if len(open) > maxOpen {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnread) {
		s.out.Again = append(s.out.Again, c)
		return
	}
	g := s.to.add(k, c.Path, c, info)
	g.without = append(g.without, open...)
	maps.Copy(g.recent, recent)
	for _, p := range open {
		s.out.Again = append(s.out.Again, fastsync.Change{Path: p, Scope: fastsync.Entry})
	}
}

// touched are the files below jobs' directories that changed since the look at
// them: the run may have shipped a beginning. Too many are their directory's change.
func (r *Rsyncer) touched(g *group, jobs []job, begun time.Time) []fastsync.Change {
	var found []fastsync.Change
	for _, j := range jobs {
		if j.alone || !j.dir {
			continue
		}
		before := len(found)
		err := r.survey(j.path, g.kind == trees, func(p string, e fs.DirEntry) error {
			at, ok := changeOf(e)
			if !ok || !at.After(begun.Add(-tick)) || g.recent[p].Equal(at) || slices.Contains(g.without, p) {
				return nil
			}
			if found = append(found, fastsync.Change{Path: p, Scope: fastsync.Entry}); len(found) > maxEntries {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errUnread) {
			found = append(found[:before], j.changes...)
		}
	}
	return found
}

// changeOf is when a regular file changed last; not ok of anything else.
func changeOf(e fs.DirEntry) (at time.Time, ok bool) {
	if !e.Type().IsRegular() {
		return time.Time{}, false
	}
	info, err := e.Info()
	if err != nil {
		return time.Time{}, false // gone since
	}
	return changeTime(info), true
}

// changeTime is when an inode last changed, which no program can set back.
func changeTime(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}
