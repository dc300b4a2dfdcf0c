package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
	"github.com/fastsync/fastsync/watcher"
)

const (
	// sampled is how many files of the root are looked at for what concerns all.
	sampled = 20
	// little is the free part of a disk below which it is told as a risk.
	little = 0.05
)

// survey is what a walk of the root found.
type survey struct {
	dirs   int
	files  []string // some, relative to the root
	exact  bool     // one of them has a time that is no whole second
	closed int      // how many of them the kernel tells to be closed
}

// root looks at the watch, its limits, and what the root's file system can do.
func (d *doctor) root(ctx context.Context) {
	switch {
	case d.s.mode == "":
		return // told as a fault of the settings
	case d.s.noFanotify != nil:
		d.risk("watch", "%s is used: %v", d.s.mode, d.s.noFanotify)
	default:
		d.good("watch", "%s", d.s.mode)
	}
	found := d.survey(ctx)
	d.found = found
	if d.s.mode == watcher.Fsnotify {
		d.watches(found.dirs)
	}
	if len(found.files) == 0 {
		return
	}
	if found.closed == 0 {
		d.risk("root", "the kernel does not tell of any file whether its writer is done, so that each waits for a quiet second: run fastsync as the files' owner, or with the capability CAP_LEASE")
	} else {
		d.good("root", "the kernel tells when a writer is done")
	}
	if !found.exact && len(found.files) == sampled {
		d.risk("root", "its file system seems to keep times to the second: a sweep cannot see a file that was rewritten with equal size within one")
	} else {
		d.good("root", "keeps times to less than a second")
	}
}

// survey counts the directories and looks at some files.
func (d *doctor) survey(ctx context.Context) (found survey) {
	_ = filepath.WalkDir(d.s.cfg.Source, func(p string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(d.s.cfg.Source, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			d.risk("root", "%q cannot be read: %v; give fastsync's user the right, or exclude it", rel, err)
			if e != nil && e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case rel != fastsync.Root && d.s.filter.Excluded(rel, e.IsDir()):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			found.dirs++
		case e.Type().IsRegular() && len(found.files) < sampled:
			found.look(p, rel)
		}
		return nil
	})
	return found
}

func (s *survey) look(p, rel string) {
	info, err := os.Lstat(p)
	if err != nil {
		return // gone since
	}
	s.files = append(s.files, rel)
	s.exact = s.exact || info.ModTime().Nanosecond() != 0
	if state, _ := lease.Probe(p); state != lease.Unknown {
		s.closed++
	}
}

// sample are some files of the root to compare with a target.
func (d *doctor) sample() []fastsync.Change {
	list := make([]fastsync.Change, 0, len(d.found.files))
	for _, p := range d.found.files {
		list = append(list, fastsync.Change{Path: p, Scope: fastsync.Entry})
	}
	if len(list) == 0 { // the way there is to be tried all the same
		list = append(list, fastsync.Change{Path: ".fastsync-doctor", Scope: fastsync.Entry})
	}
	return list
}

// watches compares the number of directories with what inotify may watch.
func (d *doctor) watches(dirs int) {
	const file = "/proc/sys/fs/inotify/max_user_watches"
	text, err := os.ReadFile(file)
	limit, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil || parseErr != nil:
		d.risk("watch", "%s cannot be read, so that nobody knows whether %d directories can be watched", file, dirs)
	case dirs > limit:
		d.bad("watch", fmt.Sprintf("the root has %d directories, and this user may watch %d: sysctl fs.inotify.max_user_watches=%d", dirs, limit, 3*dirs))
	case dirs > limit/2:
		d.risk("watch", "the root has %d directories, and this user may watch %d, of which other programs take some: sysctl fs.inotify.max_user_watches=%d", dirs, limit, 3*dirs)
	default:
		d.good("watch", "%d directories; this user may watch %d", dirs, limit)
	}
}

// folder looks at a folder that fastsync writes to: the right, the room, the times.
func (d *doctor) folder(what, dir string) {
	at := dir
	for _, err := os.Lstat(at); err != nil && at != filepath.Dir(at); _, err = os.Lstat(at) {
		at = filepath.Dir(at) // it is made when it is needed
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		d.bad(what, fmt.Sprintf("%s cannot be written: %v; give fastsync's user the right", at, err))
		return
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		d.risk(what, "nobody knows how full the disk of %s is: %v", at, err)
		return
	}
	switch bytes, inodes := part(st.Bavail, st.Blocks), part(st.Ffree, st.Files); {
	case bytes == 0 || inodes == 0:
		d.bad(what, fmt.Sprintf("the disk of %s is full (%.0f %% of the bytes and %.0f %% of the inodes are free): make room", at, 100*bytes, 100*inodes))
	case bytes < little || inodes < little:
		d.risk(what, "the disk of %s is nearly full (%.1f %% of the bytes and %.1f %% of the inodes are free): make room", at, 100*bytes, 100*inodes)
	default:
		d.good(what, "%s can be written, %.0f %% of its disk is free", at, 100*bytes)
	}
}

// part is the free part of a disk; file systems without a number of inodes tell 0 of 0.
func part(free, all uint64) float64 {
	if all == 0 {
		return 1
	}
	return float64(free) / float64(all)
}
