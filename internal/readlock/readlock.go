// Package readlock lets a program read only files that nobody is writing, and
// keeps them so while it reads.
//
// The kernel's seccomp stops the program wherever it opens a file to read it, and
// asks here. A file below the root that somebody has open for writing, or that whoever
// uses this keeps back, is refused as if it were not there, which no program takes for
// a fault of the disk. Any other is opened here and handed to the program with a read
// lease on it, which lasts until the program closes it: whoever wants to write to
// the file in between waits. A writer is not kept for long, since whoever uses this
// is told and ends the program. It takes the right to a lease, which the file's
// owner and CAP_LEASE have, and a file system that has leases; without them the
// program opens the file as if nobody had asked.
package readlock

import "errors"

// ErrUnsupported is of a system that cannot do it.
var ErrUnsupported = errors.New("only Linux 5.14 and later on amd64 and arm64 let one process open files for another")

// Told are the calls that Serve makes, one at a time. Paths are below the root.
type Told struct {
	// Asked tells whether the program may have a file that nobody has open for
	// writing; nil for always.
	Asked func(path string) bool
	// Refused is called for a file that it may not have, before the program is told
	// that it is not there.
	Refused func(path string)
	// Closed is called a moment after the program has closed the file that it got
	// last, unless it gets another before.
	Closed func()
	// Wanted is called once, when a writer waits for a file that the program still
	// reads. Writers wait until the program has closed it, or is ended.
	Wanted func(path string)
}
