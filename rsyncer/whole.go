package rsyncer

import (
	"os"

	"github.com/fastsync/fastsync/internal/lease"
)

// beingWritten tells whether somebody has the file open for writing, as far as
// the kernel tells.
func (r *Rsyncer) beingWritten(p string) bool {
	state, _ := lease.Probe(r.source + p) // an error is a file that nobody knows about
	return state == lease.Open
}

// changed tells whether the file of an entry is not the one that was looked at
// before the run. Gone counts.
func changed(root *os.Root, j job) bool {
	now, err := root.Lstat(j.path)
	return err != nil || !os.SameFile(now, j.before) || now.Size() != j.before.Size() || !now.ModTime().Equal(j.before.ModTime())
}
