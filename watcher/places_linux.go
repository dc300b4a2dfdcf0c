package watcher

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mostPlaces is how many directories are remembered, some 2 MB.
const mostPlaces = 8192

// outside stands for the path of a directory that is not below the root.
const outside = ""

// places remembers where directories are by their handles, so that an event
// costs no system call and one outside the root no path. It holds between most
// and twice as many, the ones used last. It must be cleared when any directory
// of the file system moves, since that moves all below it.
type places struct {
	most       int
	young, old map[string]string
}

func newPlaces(most int) places {
	return places{most: most, young: map[string]string{}, old: map[string]string{}}
}

func (p *places) get(handle []byte) (string, bool) {
	if at, ok := p.young[string(handle)]; ok {
		return at, true
	}
	at, ok := p.old[string(handle)]
	if ok {
		p.put(handle, at)
	}
	return at, ok
}

func (p *places) put(handle []byte, at string) {
	if len(p.young) >= p.most {
		p.young, p.old = map[string]string{}, p.young
	}
	p.young[string(handle)] = at
}

// clear makes new maps: emptying a map costs as much as it once was large.
func (p *places) clear() {
	if len(p.young)+len(p.old) > 0 {
		*p = newPlaces(p.most)
	}
}

var (
	// errGone means that a directory is not there any more.
	errGone = errors.New("it is gone")
	// errAway means that another root, or none, is where the marked one was.
	errAway = errors.New("the root is away")
)

// openRoot opens the root for a moment only: for longer, nobody could unmount it.
func openRoot(root string) (int, unix.Stat_t, error) {
	fd, err := again(func() (int, error) {
		return unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return -1, unix.Stat_t{}, fmt.Errorf("open %q: %w", root, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, unix.Stat_t{}, fmt.Errorf("stat %q: %w", root, err)
	}
	return fd, st, nil
}

func same(a, b unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// locate turns the handle of a directory into its path below the root, by the
// root's own mount: other mounts of the file system have other paths.
func locate(root int, handle []byte) (string, error) {
	kind := int32(binary.NativeEndian.Uint32(handle[4:]))
	dir, err := again(func() (int, error) {
		return unix.OpenByHandleAt(root, unix.NewFileHandle(kind, handle[8:]), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	})
	if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return "", errGone
	}
	if err != nil {
		return "", fmt.Errorf("open a directory by its handle: %w", err)
	}
	defer unix.Close(dir)
	for {
		before, err := pathOf(root)
		if err != nil {
			return "", err
		}
		at, err := pathOf(dir)
		if errors.Is(err, unix.ENAMETOOLONG) {
			return outside, nil // no path that the kernel takes leads there
		}
		if err != nil {
			return "", err
		}
		after, err := pathOf(root)
		if err != nil {
			return "", err
		}
		if before != after {
			continue // a directory above the root was renamed in between
		}
		if p, ok := below(before, at); ok {
			return p, nil
		}
		return outside, nil
	}
}

// pathOf is the present path of an open directory.
func pathOf(fd int) (string, error) {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", fmt.Errorf("look up the path of a directory: %w", err)
	}
	if !strings.HasSuffix(at, " (deleted)") {
		return at, nil
	}
	// That is how the kernel marks a directory that is gone, and may be a name.
	var open, named unix.Stat_t
	if unix.Fstat(fd, &open) != nil || unix.Lstat(at, &named) != nil || !same(open, named) {
		return "", errGone
	}
	return at, nil
}

// handleOf is the handle of an open directory in the form that events have.
func handleOf(fd int) ([]byte, error) {
	h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, err
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(h.Size()))
	b = binary.NativeEndian.AppendUint32(b, uint32(h.Type()))
	return append(b, h.Bytes()...), nil
}

// handleAbove is the handle of the directory that the root is in, nil where
// that is on another file system or nobody knows.
func handleAbove(root string, id unix.Stat_t) []byte {
	fd, st, err := openRoot(filepath.Dir(root))
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if st.Dev != id.Dev || same(st, id) {
		return nil
	}
	h, _ := handleOf(fd)
	return h
}

// again repeats a system call that a signal interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
