package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lab"
)

// arrivals tells when expected files are whole below a folder. rsync renames
// each file to its name when it is whole, and inotify tells that: nothing is
// polled, so that looking takes next to nothing of the cores that are measured.
type arrivals struct {
	root   string
	size   int64
	linger time.Duration
	fd     int
	file   *os.File
	dirs   map[int32]string // only the reader's, once it runs
	done   chan struct{}

	// The mutex is for the writers, which expect what the reader sees.
	mu      sync.Mutex
	open    map[string]bool
	at      map[string]time.Time
	settled chan struct{} // has a token after open became empty
}

const arrivalMask = unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// newArrivals watches root and all below it for files of size bytes. The reader
// rests for linger after each read, which is how coarse the times are: a burst
// is not to wake it 20,000 times a second.
func newArrivals(root string, size int64, linger time.Duration) (*arrivals, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an inotify instance: %w", err)
	}
	a := &arrivals{
		root: root, size: size, linger: linger, fd: fd, file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{},
		done: make(chan struct{}), open: map[string]bool{}, at: map[string]time.Time{}, settled: make(chan struct{}, 1),
	}
	if err := a.watch(""); err != nil {
		a.file.Close()
		return nil, err
	}
	go a.read()
	return a, nil
}

func (a *arrivals) close() {
	a.file.Close()
	<-a.done
}

// expect names files, relative to the root, before they are written.
func (a *arrivals) expect(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		a.open[name] = true
	}
}

// forget gives up what did not come and tells what that was.
func (a *arrivals) forget() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var late []string
	for name := range a.open {
		late = append(late, name)
	}
	clear(a.open)
	return late
}

// when is zero for what has not come.
func (a *arrivals) when(name string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[name]
}

// last is when the last of the names came.
func (a *arrivals) last(names []string) time.Time {
	var last time.Time
	for _, name := range names {
		if at := a.when(name); at.After(last) {
			last = at
		}
	}
	return last
}

var (
	errEnded = errors.New("ended by itself")
)

// wait returns once all that is expected has come; lab.ErrLate after patience,
// errEnded when the tool has ended.
func (a *arrivals) wait(ctx context.Context, patience time.Duration, ended <-chan struct{}) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		a.mu.Lock()
		n := len(a.open)
		a.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-a.settled:
		case <-late.C:
			return lab.ErrLate
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *arrivals) read() {
	defer close(a.done)
	buf := make([]byte, 256<<10)
	for {
		n, err := a.file.Read(buf)
		if err != nil {
			return // closed
		}
		now := time.Now()
		for _, e := range parseEvents(buf[:n]) {
			a.take(e, now)
		}
		if a.linger > 0 {
			time.Sleep(a.linger)
		}
	}
}

type event struct {
	wd   int32
	mask uint32
	name string
}

func parseEvents(buf []byte) []event {
	var events []event
	for len(buf) >= unix.SizeofInotifyEvent {
		length := int(binary.NativeEndian.Uint32(buf[12:]))
		end := min(unix.SizeofInotifyEvent+length, len(buf))
		events = append(events, event{
			int32(binary.NativeEndian.Uint32(buf)), binary.NativeEndian.Uint32(buf[4:]),
			strings.TrimRight(string(buf[unix.SizeofInotifyEvent:end]), "\x00"),
		})
		buf = buf[end:]
	}
	return events
}

func (a *arrivals) take(e event, now time.Time) {
	if e.mask&unix.IN_Q_OVERFLOW != 0 {
		_ = a.watch("") // looks at all that is there
		return
	}
	dir, known := a.dirs[e.wd]
	if !known {
		return
	}
	name := filepath.Join(dir, e.name)
	switch {
	case e.mask&unix.IN_ISDIR != 0:
		_ = a.watch(name) // gone again: whatever was in it is late
	case e.mask&unix.IN_MOVED_TO != 0:
		a.settle(name, now)
	}
}

// watch adds a directory, then takes what is in it already.
func (a *arrivals) watch(dir string) error {
	full := filepath.Join(a.root, dir)
	wd, err := unix.InotifyAddWatch(a.fd, full, arrivalMask)
	if err != nil {
		return fmt.Errorf("watch %s: %w", full, explained(err))
	}
	a.dirs[int32(wd)] = dir
	f, err := os.Open(full)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1000)
		now := time.Now()
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if !e.IsDir() {
				a.settle(name, now)
			} else if err := a.watch(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err != nil {
			return nil
		}
	}
}

// explained says what the kernel means by "no space left on device".
func explained(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("no inotify watches are left for this user: raise sysctl fs.inotify.max_user_watches or end other watchers (%w)", err)
	}
	return err
}

// settle takes an expected file that has its size.
func (a *arrivals) settle(name string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.open[name] {
		return
	}
	if info, err := os.Lstat(filepath.Join(a.root, name)); err != nil || info.Size() != a.size {
		return
	}
	delete(a.open, name)
	a.at[name] = now
	if len(a.open) == 0 {
		select {
		case a.settled <- struct{}{}:
		default:
		}
	}
}
