//go:build linux && (amd64 || arm64)

package readlock

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lease"
)

// patience is how long a writer waits at least before the program is to be ended
// for it: most files are read in less. It is twice that at most.
const patience = 50 * time.Millisecond

// Lock is what a program and all that it starts open files through.
type Lock struct {
	root           string // as the kernel names it
	listener, wake int
	pids           map[int]int // process → a descriptor of it
	reading        *reading
	due            time.Time // when to look at it
	told           Told
	ending         bool // Wanted has been called
	alone          bool // no program is left
}

// reading is the file that the program got last.
type reading struct {
	pid, fd       int
	device, inode uint64
	path          string
}

// notification, response and handing are the kernel's seccomp_notif,
// seccomp_notif_resp and seccomp_notif_addfd.
type notification struct {
	id      uint64
	pid     uint32
	_       uint32
	call    int32
	_       uint32
	_       uint64
	arguing [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

type handing struct {
	id           uint64
	flags        uint32
	from, to     uint32
	closeOnExecs uint32
}

// Close ends Serve, and must be called once. A program that is still there cannot
// open files any more.
func (l *Lock) Close() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(l.wake, one[:]) // it cannot be full
}

// Serve answers until Close, and then lets go of everything: it has to be called
// once for each lock. It keeps a thread of its own, since what the runtime's poller
// adds to a wait is as much as the rest of an answer.
func (l *Lock) Serve(told Told) {
	l.told = told
	defer func() {
		for _, fd := range l.pids {
			unix.Close(fd)
		}
		unix.Close(l.listener)
		unix.Close(l.wake)
	}()
	for {
		ready := []unix.PollFd{{Fd: int32(l.listener), Events: unix.POLLIN}, {Fd: int32(l.wake), Events: unix.POLLIN}}
		if l.alone {
			ready = ready[1:]
		}
		some, err := unix.Poll(ready, l.wait())
		switch {
		case err != nil: // a signal
		case ready[len(ready)-1].Revents != 0:
			return
		case some == 0:
			l.look()
		default:
			l.attend(ready[0].Revents)
		}
	}
}

// attend does what the listener's events ask for.
func (l *Lock) attend(events int16) {
	switch {
	case events&unix.POLLIN != 0:
		l.receive()
	case events&unix.POLLHUP != 0:
		l.alone = true
	} // else the kernel was interrupted by a signal while it looked, and says POLLERR
}

// wait is for how many milliseconds nothing has to be done unasked; -1 is for ever.
func (l *Lock) wait() int {
	if l.reading == nil || l.ending {
		return -1
	}
	return max(0, int(time.Until(l.due)/time.Millisecond)+1)
}

// receive takes what the program asks, unless it was killed meanwhile.
func (l *Lock) receive() {
	var n notification
	if _, errno := l.control(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); errno == 0 {
		l.answer(n)
	}
}

// answer lets the program have the file that it asks for, or not.
func (l *Lock) answer(n notification) {
	fd, name, err := l.open(n)
	defer unix.Close(fd)
	var failed cannot
	switch {
	case errors.As(err, &failed):
		l.respond(response{id: n.id, errno: -int32(failed)})
	case errors.Is(err, errBusy):
		l.refuse(n, name)
	case err != nil:
		l.respond(response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
	case l.told.Asked != nil && !l.told.Asked(name):
		l.refuse(n, name)
	default:
		l.hand(n, fd, name)
	}
}

// refuse says that a file is not there.
func (l *Lock) refuse(n notification, name string) {
	l.told.Refused(name)
	l.respond(response{id: n.id, errno: -int32(unix.ENOENT)})
}

// respond fails only where the program is not waiting any more.
func (l *Lock) respond(r response) { l.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) }

// hand gives the program an open file, with the lease that is on it.
func (l *Lock) hand(n notification, fd int, name string) {
	// Not with its answer in one (SECCOMP_ADDFD_FLAG_SEND): should a signal come in
	// between, the kernel answers that the file is open as descriptor 0.
	h := handing{id: n.id, from: uint32(fd)}
	theirs, errno := l.control(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&h))
	if errno != 0 { // it has too many open, or is gone
		l.respond(response{id: n.id, errno: -int32(errno)})
		return
	}
	l.respond(response{id: n.id, value: int64(theirs)})
	var stat unix.Stat_t
	_ = unix.Fstat(fd, &stat) // of an open file it does not fail
	if l.reading == nil {
		l.due = time.Now().Add(patience)
	}
	l.reading = &reading{int(n.pid), theirs, uint64(stat.Dev), stat.Ino, name} //nolint:unconvert // int32 elsewhere
}

// control is an ioctl on the listener. The runtime's own signals interrupt it
// under load: what was not done is done again.
func (l *Lock) control(request uintptr, with unsafe.Pointer) (int, unix.Errno) {
	for {
		got, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.listener), request, uintptr(with))
		if errno != unix.EINTR {
			return int(got), errno
		}
	}
}

// look lets a writer that waits for what the program still reads be told of.
func (l *Lock) look() {
	switch kind, err := l.lease(); {
	case lease.Exhausted(err): // nothing can be told now
		l.due = time.Now().Add(patience)
	case err != nil: // it has closed it
		l.reading = nil
		if l.told.Closed != nil {
			l.told.Closed()
		}
	case kind != unix.F_RDLCK:
		l.ending = true
		l.told.Wanted(l.reading.path)
	default:
		l.due = time.Now().Add(patience)
	}
}
