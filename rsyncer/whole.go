package rsyncer

import (
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/fastsync/fastsync/internal/lease"
)

// beingWritten tells whether somebody has a regular file open for writing, as far
// as the kernel tells, or may have for want of descriptors to ask it.
func (r *Rsyncer) beingWritten(p string) bool {
	state, err := lease.ProbeFile(r.source + p) // another error is a file that nobody knows about
	return state == lease.Open || lease.Exhausted(err)
}

// mark is what tells one content of a file from another, as far as a look does.
type mark struct {
	inode, device uint64
	size, written int64 // bytes; ns since 1970
}

// markOf is nil of what is no regular file.
func markOf(info fs.FileInfo) *mark {
	if info == nil || !info.Mode().IsRegular() {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m := markFrom(st)
		return &m
	}
	return &mark{size: info.Size(), written: info.ModTime().UnixNano()}
}

func markFrom(st *syscall.Stat_t) mark {
	return mark{st.Ino, st.Dev, st.Size, st.Mtim.Nano()}
}

// changed tells whether the file of an entry is not the one that was looked at
// before the run. Gone counts. Nothing is read by way of this look, so that it
// does not matter where its path leads by now.
func (r *Rsyncer) changed(j job) bool {
	var now syscall.Stat_t
	err := syscall.Lstat(r.source+j.path, &now)
	return err != nil || now.Mode&syscall.S_IFMT != syscall.S_IFREG || markFrom(&now) != *j.before
}

// overtaken tells whether a path could not be shipped since it changed after a
// time, which is no fault of it: it, or the directory that it was in, is not there
// any more, or was something else when the run came by. The next look says what is
// to be done. Of a source that is far away only rsync's messages tell, and it has
// none on a path that only changed.
func (r *Rsyncer) overtaken(k kind, p string, v verdict, begun time.Time) bool {
	if r.pull {
		return !v.own || belowNoDirectory(v.reason) || vanished(v.reason)
	}
	_, err := os.Lstat(r.source + p)
	if k != deletes && missing(err) || belowNoDirectory(v.reason) {
		return true
	}
	return (!v.own || nowhere(v.reason)) && r.moved(p, begun)
}

// moved tells whether something came to, or went from, a directory on the way to a
// path since a time.
func (r *Rsyncer) moved(p string, begun time.Time) bool {
	for {
		if info, err := os.Lstat(r.source + p); err != nil || changeTime(info).After(begun.Add(-tick)) {
			return true
		}
		if p == "." {
			return false
		}
		p = path.Dir(p)
	}
}

// back tells whether what was to be deleted is there again: then rsync may have
// left all below it, which a new directory does not have.
func (r *Rsyncer) back(j job) bool {
	_, err := os.Lstat(r.source + j.path)
	return !r.pull && err == nil
}
