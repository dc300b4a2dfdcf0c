package rsyncer

import (
	"io/fs"
	"os"
	"syscall"

	"github.com/fastsync/fastsync/internal/lease"
)

// beingWritten tells whether somebody has the file open for writing, as far as
// the kernel tells.
func (r *Rsyncer) beingWritten(p string) bool {
	state, _ := lease.Probe(r.source + p) // an error is a file that nobody knows about
	return state == lease.Open
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
	m := &mark{size: info.Size(), written: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.inode, m.device = st.Ino, uint64(st.Dev)
	}
	return m
}

// changed tells whether the file of an entry is not the one that was looked at
// before the run. Gone counts.
func changed(root *os.Root, j job) bool {
	info, err := root.Lstat(j.path)
	if err != nil {
		return true
	}
	now := markOf(info)
	return now == nil || *now != *j.before
}
