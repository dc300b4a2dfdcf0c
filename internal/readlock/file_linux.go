//go:build linux && (amd64 || arm64)

package readlock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lease"
)

// lease is what the program's lease on its file is, or is to be: F_UNLCK while a
// writer waits.
func (l *Lock) lease() (int, error) {
	r := l.reading
	fd, err := l.take(r.pid, r.fd)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, err
	}
	if uint64(stat.Dev) != r.device || stat.Ino != r.inode { //nolint:unconvert // int32 elsewhere
		return 0, unix.EBADF // another by now
	}
	return unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
}

// take returns a copy of another process's descriptor, which takes the right to
// trace it.
func (l *Lock) take(pid, fd int) (int, error) {
	of, ok := l.pids[pid]
	if !ok {
		var err error
		if of, err = unix.PidfdOpen(pid, 0); err != nil {
			return -1, fmt.Errorf("look for process %d: %w", pid, err)
		}
		l.pids[pid] = of
	}
	got, err := unix.PidfdGetfd(of, fd, 0)
	if errors.Is(err, unix.ESRCH) && ok { // another process has its number by now
		unix.Close(of)
		delete(l.pids, pid)
		return l.take(pid, fd)
	}
	if err != nil {
		return -1, fmt.Errorf("take a descriptor of process %d: %w", pid, err)
	}
	return got, nil
}

var errBusy = errors.New("somebody has it open for writing")

// cannot is why a file of the root cannot be opened. The program is told just
// that: if it tried by itself, there may be a file by then, and its writer with it.
type cannot unix.Errno

func (c cannot) Error() string { return unix.Errno(c).Error() }

// open opens what a program wants, with a lease. With an error that is neither
// cannot nor errBusy the program may open it by itself. The caller closes fd.
func (l *Lock) open(n notification) (fd int, name string, err error) {
	at, text, flags := int32(unix.AT_FDCWD), n.arguing[0], n.arguing[1]
	if n.call == unix.SYS_OPENAT {
		at, text, flags = int32(n.arguing[0]), n.arguing[1], n.arguing[2]
	}
	pid := int(n.pid)
	if name, err = readText(pid, uintptr(text)); err != nil {
		return -1, "", err
	}
	fd, rel, err := l.openAt(pid, at, name, flags)
	if !lease.Exhausted(err) {
		return fd, rel, err
	}
	if rel, err = l.place(pid, at, name); err == nil {
		err = errBusy // the program may have a descriptor for it, but no lease
	}
	return fd, rel, err
}

// place is where a name is below the root, without a descriptor to make sure of it.
func (l *Lock) place(pid int, at int32, name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return l.below("/", name)
	}
	in := fmt.Sprintf("/proc/%d/fd/%d", pid, at)
	if at == unix.AT_FDCWD {
		in = fmt.Sprintf("/proc/%d/cwd", pid)
	}
	within, err := os.Readlink(in)
	if err != nil {
		return "", err
	}
	return l.below(within, name)
}

// below is a name in a folder as a path below the root.
func (l *Lock) below(within, name string) (string, error) {
	rel, ok := strings.CutPrefix(path.Join(within, name), l.root+"/")
	if !ok {
		return "", unix.EXDEV
	}
	return rel, nil
}

// openAt opens a name of the program's that is below the root.
func (l *Lock) openAt(pid int, at int32, name string, flags uint64) (fd int, rel string, err error) {
	dir, name, err := l.folder(pid, at, name)
	if err != nil {
		return -1, "", err
	}
	defer unix.Close(dir)
	within, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir))
	if err != nil {
		return -1, "", err
	}
	if rel, err = l.below(within, name); err != nil {
		return -1, "", err
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | flags&unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err = lease.Retry(func() (int, error) { return unix.Openat2(dir, name, &how) })
	if errors.Is(err, unix.EAGAIN) { // another program's lease, as Samba has them
		return -1, rel, errBusy
	}
	if errno := unix.Errno(0); errors.As(err, &errno) && errno != unix.EXDEV && !lease.Exhausted(err) { // EXDEV leads out
		return -1, "", cannot(errno)
	}
	if err != nil {
		return -1, "", err
	}
	_, err = lease.Retry(func() (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK) })
	if errors.Is(err, unix.EAGAIN) {
		err = errBusy
	}
	return fd, rel, err
}

// folder opens what a name is to be looked up in, and says by which name.
func (l *Lock) folder(pid int, at int32, name string) (dir int, below string, err error) {
	in := l.root + "/"
	switch {
	case strings.HasPrefix(name, "/"):
		var ok bool
		if name, ok = strings.CutPrefix(name, in); !ok {
			return -1, "", unix.EXDEV
		}
	case at == unix.AT_FDCWD:
		in = fmt.Sprintf("/proc/%d/cwd", pid)
	default:
		dir, err = l.take(pid, int(at))
		return dir, name, err
	}
	dir, err = unix.Open(in, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return dir, name, err
}

// readText reads a text of another process's that ends with NUL.
func readText(pid int, at uintptr) (string, error) {
	var text [unix.PathMax]byte
	page := uintptr(os.Getpagesize())
	for have := 0; have < len(text); {
		part := min(int(page-at%page), len(text)-have) // the next page may not be there
		local := []unix.Iovec{{Base: &text[have]}}
		local[0].SetLen(part)
		n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: at, Len: part}}, 0)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(text[have:have+n], 0); end >= 0 {
			return string(text[:have+end]), nil
		}
		if n == 0 {
			break
		}
		have, at = have+n, at+uintptr(n)
	}
	return "", unix.ENAMETOOLONG
}
