package watcher

import (
	"io/fs"
	"syscall"
	"time"
)

// others tells whether the other names of a file have to be looked for, by a catch-up:
// all of them have its new ctime, but the kernel tells only the name it was changed by.
type others struct {
	since time.Time // of the first such change since the last look for them; zero for none
	// seen is what a name that was changed was when it was looked at, for as long as
	// an event from before that may still come, which says that it had been another file.
	seen map[string]look
}

// look is what a name was at some time.
type look struct {
	at    time.Time
	inode uint64 // 0 for nothing
}

// mostSeen bounds what is remembered; the kernel's queue is seldom that long.
const mostSeen = 10_000

// links notes that the file of a change has, or may have had, other names. Who was
// changed cannot be looked at any more when its name was removed since or taken by
// another file. What is moved away tells by its new name.
func (l *loop) links(c change, now fs.FileInfo) {
	const touched = written | closed | attrib
	inode, more := inodeOf(now)
	before, known := l.others.seen[c.path]
	moved := inode != before.inode // between the look at it and now: then it was the changed file that was seen
	switch {
	case more && c.what&(touched|movedIn) != 0,
		known && !moved && c.what&(made|removed) != 0,
		known && before.inode == 0 && c.what&removed != 0,
		// Of these it is not told which came last. A new file that takes a removed
		// one's name does not tell of more.
		c.what&touched != 0 && c.what&removed != 0 && (inode == 0 || c.what&made == 0),
		c.what&written != 0 && c.what&movedIn != 0:
		if l.others.since.IsZero() {
			l.others.since = l.good
		}
	}
	switch {
	case c.what&gone != 0:
		delete(l.others.seen, c.path)
	case c.what&touched != 0 && len(l.others.seen) < mostSeen:
		l.others.seen[c.path] = look{time.Now(), inode}
	}
}

// forget drops what was seen until some time; every event from before that was read.
func (o *others) forget(until time.Time) {
	for p, at := range o.seen {
		if !at.at.After(until) {
			delete(o.seen, p)
		}
	}
}

// inodeOf returns 0 for a file that is not there, and whether it has more names.
func inodeOf(info fs.FileInfo) (inode uint64, more bool) {
	if info == nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Ino, st.Nlink > 1
}
