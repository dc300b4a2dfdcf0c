package watcher

import (
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// mostEchoes bounds what waits for an answer; an overflow may have lost some.
const mostEchoes = 64

// echo tells how far inotify's events were read while they never cease: the
// event of a change that it makes itself comes after all that were there before.
type echo struct {
	file *os.File // without a name and on no disk; nil until it is needed
	path string
	// asked is when changes were made whose events are to come. Should one be
	// lost, those of later ones count for it, which is too early and never too late.
	asked []time.Time
}

// ask makes a change. Without memory or a watch for it, only silence tells.
func (e *echo) ask(kernel *fsnotify.Watcher, now time.Time) {
	n := len(e.asked)
	if n == mostEchoes || n > 0 && now.Sub(e.asked[n-1]) < tick || !e.open(kernel) {
		return
	}
	if e.file.Chmod(0o600) == nil {
		e.asked = append(e.asked, now)
	}
}

func (e *echo) open(kernel *fsnotify.Watcher) bool {
	if e.file != nil {
		return true
	}
	fd, err := unix.MemfdCreate("fastsync", unix.MFD_CLOEXEC)
	if err != nil {
		return false
	}
	file, path := os.NewFile(uintptr(fd), "memfd"), fmt.Sprintf("/proc/self/fd/%d", fd)
	if kernel.Add(path) != nil {
		file.Close()
		return false
	}
	e.file, e.path = file, path
	return true
}

// heard returns when the change was made whose event has come.
func (e *echo) heard() (at time.Time) {
	if len(e.asked) > 0 {
		at, e.asked = e.asked[0], e.asked[1:]
	}
	return at
}

func (e *echo) close() {
	if e.file != nil {
		e.file.Close()
	}
}
