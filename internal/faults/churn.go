package main

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// churn changes a root at random, by a seed, as its writers do; outside is where
// things come from and go to. What it writes tells whether it is whole.
type churn struct {
	rng           *rand.Rand
	root, outside string
	pace          time.Duration // mean pause between two changes
	plain         bool          // files come whole by rename, never in place
	single        bool          // no file gets another name, which would be looked for by a catch-up
	n             int
	once          int // files that were written once

	mu sync.Mutex // held during a change; who holds it has a quiet root
}

// names are few, so that they are used again; some need care.
var names = []string{
	"a", "b", "c", "d", "e", "#f", ";g", "-h", "i j", "k:l", "new\nline", "bad\xff", "*[m]?", "ünï", "back\\slash", strings.Repeat("n", 255),
}

func newChurn(rng *rand.Rand, root, outside string) *churn {
	return &churn{rng: rng, root: root, outside: outside, pace: 5 * time.Millisecond}
}

// run changes until ctx ends.
func (c *churn) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		c.step()
		wait := time.Duration(c.rng.ExpFloat64() * float64(c.pace))
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(min(wait, 10*c.pace)):
		}
	}
}

// pick returns a random path of the root's: a directory, or a regular file; the
// root itself stands for a directory, "" for no file.
func (c *churn) pick(dir bool) string {
	var found []string
	if dir {
		found = append(found, c.root)
	}
	_ = filepath.WalkDir(c.root, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || p == c.root:
			return nil
		case strings.HasPrefix(e.Name(), "keep") && e.IsDir():
			return fs.SkipDir // a fault's own
		case strings.HasPrefix(e.Name(), "keep"):
			return nil
		}
		if dir && e.IsDir() || !dir && e.Type().IsRegular() {
			found = append(found, p)
		}
		return nil
	})
	if len(found) == 0 {
		return ""
	}
	return found[c.rng.IntN(len(found))]
}

func (c *churn) name() string {
	return filepath.Join(c.pick(true), names[c.rng.IntN(len(names))])
}

func (c *churn) content() []byte {
	c.n++
	return record(c.rng, []int{10, 2000, 4000, 100_000}[c.rng.IntN(4)])
}

// write makes a file, or writes it anew: in place, or beside it and renamed.
// The disk may refuse, as it does a file where a directory is.
func (c *churn) write(p string, data []byte) {
	if !c.plain && c.rng.IntN(2) == 0 {
		if err := os.WriteFile(p, data, 0o644); err != nil {
			return
		}
		return
	}
	beside := filepath.Join(filepath.Dir(p), ".new-"+strconv.Itoa(c.n))
	if os.WriteFile(beside, data, 0o644) == nil && os.Rename(beside, p) != nil {
		_ = os.Remove(beside)
	}
}

const (
	singles    = 400 // files that are written once and stay so long
	singleDirs = 100 // made before anything looks: a new one is looked through
)

// writeOnce writes a file that nothing touches until it is removed: all else changes
// so often that an event which is lost is seldom missed. The next files are in other
// directories, so that no look at those finds it.
func (c *churn) writeOnce() {
	place := func(n int) string {
		return filepath.Join(c.root, "keep-once", strconv.Itoa(n%singleDirs), strconv.Itoa(n))
	}
	if c.once == 0 {
		for n := range singleDirs {
			_ = os.MkdirAll(filepath.Dir(place(n)), 0o755)
		}
	}
	if c.once++; c.once > singles {
		_ = os.Remove(place(c.once - singles))
	}
	c.write(place(c.once), record(c.rng, 200))
}

// step makes one change. What the disk refuses is none.
func (c *churn) step() {
	if c.rng.IntN(8) == 0 {
		c.writeOnce()
		return
	}
	switch c.rng.IntN(16) {
	case 0, 1:
		_ = os.Mkdir(c.name(), 0o755)
	case 2:
		deep := filepath.Join(c.name(), "p", "q")
		if os.MkdirAll(deep, 0o755) == nil {
			c.write(filepath.Join(deep, "f"), c.content())
		}
	case 3, 4, 5:
		c.write(c.name(), c.content())
	case 6:
		p := c.name() // twice within a second, with one size
		c.write(p, record(c.rng, 1000))
		c.write(p, record(c.rng, 1000))
	case 7:
		c.appendTo(c.pick(false))
	case 8:
		_ = syscall.Rename(c.pick(false), c.name())
	case 9:
		_ = syscall.Rename(c.pick(true), c.name())
	case 10:
		c.away()
	case 11:
		_ = os.Remove(c.pick(false))
	case 12:
		if d := c.pick(true); d != c.root {
			_ = os.RemoveAll(d)
		}
	case 13:
		if !c.single {
			_ = os.Link(c.pick(false), c.name())
		}
		_ = os.Symlink(names[c.rng.IntN(5)], c.name())
	case 14:
		if c.rng.IntN(2) == 0 {
			_ = os.Chmod(c.pick(true), []fs.FileMode{0o755, 0o700, 0o775}[c.rng.IntN(3)])
		} else {
			_ = os.Chmod(c.pick(false), []fs.FileMode{0o644, 0o600, 0o755}[c.rng.IntN(3)])
		}
	case 15:
		c.movedIn()
	}
}

func (c *churn) appendTo(p string) {
	if c.plain || p == "" {
		return
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() < 1<<20 {
		_, _ = f.Write(c.content())
	}
}

// away moves a directory out, makes another by its name, and may bring the
// first back elsewhere.
func (c *churn) away() {
	d := c.pick(true)
	if d == c.root {
		return
	}
	c.n++
	out := filepath.Join(c.outside, strconv.Itoa(c.n))
	if os.Rename(d, out) != nil {
		return
	}
	if c.rng.IntN(2) == 0 && os.Mkdir(d, 0o755) == nil {
		c.write(filepath.Join(d, "f"), c.content())
	}
	if c.rng.IntN(2) == 0 {
		_ = syscall.Rename(out, c.name())
	} else {
		_ = os.RemoveAll(out)
	}
}

// movedIn brings a directory with old times inside from outside the root.
func (c *churn) movedIn() {
	c.n++
	d := filepath.Join(c.outside, "in"+strconv.Itoa(c.n))
	if os.MkdirAll(filepath.Join(d, "sub"), 0o755) != nil {
		return
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, f := range []string{"a", "sub/b"} {
		p := filepath.Join(d, f)
		_ = os.WriteFile(p, c.content(), 0o644)
		_ = os.Chtimes(p, old, old)
	}
	if syscall.Rename(d, c.name()) != nil {
		_ = os.RemoveAll(d)
	}
}
