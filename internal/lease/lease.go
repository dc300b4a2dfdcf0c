// Package lease tells whether a writer still has a file open, by asking the
// kernel for a read lease and giving it back at once.
package lease

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// State is what a probe found.
type State int

const (
	// Closed means that no writer has the file open.
	Closed State = iota
	// Open means that a writer has it open.
	Open
	// Unknown means that the kernel does not say: wait for a quiet time.
	Unknown
	// Gone means that there is no regular file by that name any more.
	Gone
)

// Probe asks for the file at path. It follows no symbolic link.
func Probe(path string) (State, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return Gone, nil
	case err != nil:
		return Unknown, fmt.Errorf("open %q for a lease: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Unknown, fmt.Errorf("stat %q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Gone, nil
	}
	// A lease that is broken raises this signal instead of SIGIO, which would
	// end the process; the Go runtime ignores SIGURG.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		return Unknown, fmt.Errorf("set the lease signal of %q: %w", path, err)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return Open, nil
	case err != nil:
		return Unknown, fmt.Errorf("lease %q: %w", path, err)
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return Closed, nil
}
