package watcher

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lease"
)

// lister reads directories into one buffer. os.ReadDir sorts, makes an object
// for each entry and keeps all of them.
type lister struct {
	buf []byte
	// wait is how long an opening waits for descriptors while none is free.
	wait time.Duration
}

// each calls visit for what is in the directory, which is open as fd, until
// that returns false. The name is good until then; the kind is one of unix.DT_*, never unknown. A link
// is no directory.
func (l *lister) each(dir string, visit func(fd int, name []byte, kind uint8) bool) error {
	fd, err := openDir(dir, l.wait)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return l.read(fd, visit)
}

// scarce is how long a catch-up waits for descriptors before it fails for now.
const scarce = time.Second

func openDir(dir string, wait time.Duration) (int, error) {
	for begun := time.Now(); ; time.Sleep(scarce / 100) {
		fd, err := lease.Retry(func() (int, error) {
			return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		switch {
		case err == nil:
			return fd, nil
		case !lease.Exhausted(err), time.Since(begun) >= wait:
			return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
		}
	}
}

// Where the fields of a linux_dirent64 are, on every architecture.
const (
	direntLen  = 16
	direntType = 18
	direntName = 19
)

func (l *lister) read(fd int, visit func(fd int, name []byte, kind uint8) bool) error {
	if l.buf == nil {
		l.buf = make([]byte, 32<<10)
	}
	for {
		n, err := unix.Getdents(fd, l.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for rest := l.buf[:n]; len(rest) > direntName; {
			size := int(binary.NativeEndian.Uint16(rest[direntLen:]))
			kind, name := rest[direntType], rest[direntName:size]
			rest = rest[size:]
			name, _, _ = bytes.Cut(name, []byte{0})
			if string(name) == "." || string(name) == ".." {
				continue
			}
			if kind == unix.DT_UNKNOWN {
				kind = kindOf(fd, string(name))
			}
			if !visit(fd, name, kind) {
				return nil
			}
		}
	}
}

// kindOf asks for what some file systems do not tell in a listing. Gone is as
// good as a file: nobody finds it.
func kindOf(fd int, name string) uint8 {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return unix.DT_REG
	}
	return uint8(st.Mode & unix.S_IFMT >> 12)
}
