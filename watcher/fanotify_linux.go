package watcher

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

const (
	groupFlags = unix.FAN_CLASS_NOTIF | unix.FAN_REPORT_DFID_NAME | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK
	// wanted has FAN_MODIFY for what no close tells: truncate(2), the time of a
	// file, and a writer that stays, which must hold the checkpoint back.
	wanted = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_MOVED_FROM | unix.FAN_MOVED_TO |
		unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_ONDIR
	// bufferSize holds some 100 events: the loop looks at nothing else meanwhile.
	bufferSize = 8192
	// After flood reads, each within pace of the one before, the next waits that
	// long: the kernel merges what happens to one file meanwhile, and each read
	// costs a switch of goroutines. A single file never gets there.
	flood = 16
	pace  = 2 * time.Millisecond
)

// fanotify is one group with one mark, for the root's whole file system. The
// loop uses it, except for read, which has a goroutine of its own.
type fanotify struct {
	root   string
	group  int
	mounts int    // /proc/self/mountinfo, which tells by poll(2) that it has changed
	wake   [2]int // a pipe that ends read

	heard   chan heard
	free    chan []byte // buffers that read may fill
	stopped chan struct{}
	halt    sync.Once

	places  places
	marked  unix.Stat_t // the root that has the mark
	above   []byte      // the handle of the directory that the root is in; nil on another file system
	located int         // how many paths were looked up; tests count them
}

// openFanotify makes a group without a mark.
func openFanotify(root string, most int, limited bool) (*fanotify, error) {
	f := &fanotify{
		root: root, group: -1, mounts: -1, wake: [2]int{-1, -1}, places: newPlaces(most),
		heard: make(chan heard), free: make(chan []byte, 2), stopped: make(chan struct{}),
	}
	f.free <- make([]byte, bufferSize)
	f.free <- make([]byte, bufferSize)
	flags := uint(groupFlags | unix.FAN_UNLIMITED_QUEUE)
	if limited {
		flags = groupFlags
	}
	var err error
	if f.group, err = unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE); err != nil {
		return nil, refuse(stepInit, err, "")
	}
	if f.mounts, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		err = unix.Pipe2(f.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("%w: it needs /proc and free file descriptors: %w", errRefused, err)
	}
	return f, nil
}

// mark marks the file system that the root is on now, and sees that handles
// of it can be turned into paths.
func (f *fanotify) mark() error {
	f.unmark()
	root, id, err := openRoot(f.root)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	kind := kindAt(f.mounted(), f.root)
	if shared(kind) {
		return refuse(stepMark, errShared, kind)
	}
	if err := unix.FanotifyMark(f.group, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, wanted, root, ""); err != nil {
		return refuse(stepMark, err, kind)
	}
	handle, err := handleOf(root)
	if err == nil {
		var at string
		if at, err = locate(root, handle); err == nil && at != "." {
			err = fmt.Errorf("the root's own handle leads to %q", at)
		}
	}
	if err != nil {
		f.unmark()
		return refuse(stepHandle, err, kind)
	}
	f.marked, f.above = id, handleAbove(f.root, id)
	return nil
}

// unmark ends the flow of events. A failure means that there is no mark.
func (f *fanotify) unmark() {
	_ = unix.FanotifyMark(f.group, unix.FAN_MARK_FLUSH|unix.FAN_MARK_FILESYSTEM, 0, unix.AT_FDCWD, "/")
	f.marked, f.above = unix.Stat_t{}, nil
	f.places.clear()
}

// hasMark tells whether the mark is still there: it ends with the mount of its
// file system, which no event tells, and the next mount may look the same.
func (f *fanotify) hasMark() bool {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(f.group))
	return err != nil || strings.Contains(string(text), "fanotify sdev:")
}

// mounted is what is mounted now, as far as it can be read.
func (f *fanotify) mounted() []mount {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	return parseMounts(string(text))
}

// beneath are the mounts below the root, which the mark does not cover.
func (f *fanotify) beneath(excluded func(string, bool) bool) []string {
	return beneath(f.mounted(), f.root, excluded)
}

// changes calls take for each event below the root. Its error means that
// others were lost.
func (f *fanotify) changes(b []byte, take func(change)) error {
	var lost error
	for len(b) > 0 {
		var r record
		var err error
		if r, b, err = next(b); err != nil {
			f.places.clear() // one of them may have been a directory that moved
			return err
		}
		if r.mask&unix.FAN_Q_OVERFLOW != 0 {
			f.places.clear()
			lost = errOverflow
			continue
		}
		dir := r.mask&unix.FAN_ONDIR != 0
		if dir && r.mask&(unix.FAN_MOVED_FROM|unix.FAN_MOVED_TO|unix.FAN_DELETE) != 0 {
			f.places.clear()
		}
		at, err := f.find(r.dir)
		switch {
		case errors.Is(err, errAway), dir && seen(r.mask)&gone != 0 && f.isRoot(r):
			take(change{path: fastsync.Root, what: gone, dir: true})
		case errors.Is(err, errGone): // told by the directory that it was in
		case err != nil:
			lost = err
		case at != outside:
			take(change{path: path.Join(at, string(r.name)), what: seen(r.mask), dir: dir})
		}
	}
	return lost
}

// isRoot tells whether an event is of the root's own name, in the directory above.
func (f *fanotify) isRoot(r record) bool {
	return f.above != nil && bytes.Equal(r.dir, f.above) && string(r.name) == filepath.Base(f.root)
}

// find is where a directory is, from memory if it can.
func (f *fanotify) find(handle []byte) (string, error) {
	if handle == nil || f.marked.Ino == 0 {
		return "", errGone
	}
	if at, ok := f.places.get(handle); ok {
		return at, nil
	}
	f.located++
	root, id, err := openRoot(f.root)
	if lease.Exhausted(err) {
		return "", err // it may well be there
	}
	if err != nil {
		return "", errAway
	}
	defer unix.Close(root)
	if !same(id, f.marked) {
		return "", errAway
	}
	at, err := locate(root, handle)
	if err == nil {
		f.places.put(handle, at)
	}
	return at, err
}

// read hands on what the kernel tells until stop is called.
func (f *fanotify) read() {
	row, last := 0, time.Time{}
	for {
		fds := []unix.PollFd{
			{Fd: int32(f.wake[0]), Events: unix.POLLIN},
			{Fd: int32(f.mounts), Events: unix.POLLPRI},
			{Fd: int32(f.group), Events: unix.POLLIN},
		}
		if _, err := again(func() (int, error) { return unix.Poll(fds, -1) }); err != nil {
			f.send(heard{err: fmt.Errorf("wait for fanotify: %w", err)})
			return
		}
		if fds[0].Revents != 0 {
			return
		}
		if fds[1].Revents != 0 && !f.send(heard{mounts: true}) {
			return
		}
		if fds[2].Revents == 0 {
			continue
		}
		if row++; time.Since(last) > 2*pace {
			row = 0
		}
		if row > flood && !f.rest(pace) || !f.drain() {
			return
		}
		last = time.Now()
	}
}

// rest waits; false if it is to stop meanwhile.
func (f *fanotify) rest(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-f.stopped:
		return false
	}
}

// drain reads until the queue is empty. It is false when reading has to end.
func (f *fanotify) drain() bool {
	for {
		var buf []byte
		select {
		case buf = <-f.free:
		case <-f.stopped:
			return false
		}
		began := time.Now()
		n, err := again(func() (int, error) { return unix.Read(f.group, buf) })
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			f.send(heard{err: fmt.Errorf("read from fanotify: %w", err)})
			return false
		}
		h := heard{events: buf[:max(n, 0)]}
		empty := n <= len(buf)-largest // else the next event may not have fitted
		if empty {
			h.drained = began
		}
		if !f.send(h) {
			return false
		}
		if empty {
			return true
		}
	}
}

func (f *fanotify) send(h heard) bool {
	select {
	case f.heard <- h:
		return true
	case <-f.stopped:
		return false
	}
}

// stop ends read; its goroutine must have ended before close.
func (f *fanotify) stop() {
	f.halt.Do(func() {
		close(f.stopped)
		_, _ = unix.Write(f.wake[1], []byte{0})
	})
}

func (f *fanotify) close() {
	for _, fd := range []int{f.group, f.mounts, f.wake[0], f.wake[1]} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
