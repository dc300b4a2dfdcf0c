// Package lease tells whether some process still has a file open for writing.
//
// It asks the kernel for a read lease, which is refused while there is a
// writer, and drops it at once: 9 µs on ext4 and tmpfs. It needs the file's
// owner or CAP_LEASE, and a file system that has leases. It never changes a
// file, never follows a link as the last part of a path and never waits for a
// FIFO. A writer that opens the file while the lease is held waits for some
// microseconds, and this process gets a SIGIO, which the Go runtime ignores.
package lease

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// State is what is known about the writers of a file.
type State int

const (
	// Unknown means that the kernel does not tell: wait for a quiet time.
	Unknown State = iota
	// Closed means that nobody has the file open for writing.
	Closed
	// Open means that somebody has the file open for writing.
	Open
	// Gone means that there is no such path.
	Gone
	// Special means that the path is no regular file: a link, a directory, a device.
	Special
)

func (s State) String() string {
	names := [...]string{"unknown", "closed", "open", "gone", "special"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return names[s]
}

// Probe tells whether path is being written. An error comes with Unknown only,
// where something else than a missing right or a missing feature is the cause.
func Probe(path string) (State, error) {
	// A device must not even be opened: that can rewind a tape.
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return outcome("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Special, nil
	}
	return ProbeFile(path)
}

// ProbeFile is Probe for a path that was a regular file a moment ago, at half
// the cost. Of anything else it says Unknown.
func ProbeFile(path string) (State, error) {
	fd, err := Retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return outcome("open", path, err)
	}
	defer unix.Close(fd) // which drops the lease
	if _, err := Retry(func() (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK) }); err != nil {
		return outcome("ask for a lease on", path, err)
	}
	return Closed, nil
}

func outcome(doing, path string, err error) (State, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return Gone, nil
	case errors.Is(err, unix.ELOOP):
		return Special, nil
	case errors.Is(err, unix.EAGAIN):
		return Open, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EINVAL),
		errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOLCK):
		return Unknown, nil
	}
	return Unknown, fmt.Errorf("%s %q: %w", doing, path, err)
}

// Retry runs a system call again for as long as a signal interrupts it.
func Retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Exhausted tells whether a file could not be opened for now, and not for what it is:
// there was no descriptor or no memory for it.
func Exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}
