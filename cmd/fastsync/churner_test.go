package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// churner changes root at random; outside is where things come from and go to.
type churner struct {
	t             *testing.T
	rng           *rand.Rand
	root, outside string
	n             int
}

func newChurner(t *testing.T, seed uint64) *churner {
	dir := t.TempDir()
	c := &churner{t: t, rng: rand.New(rand.NewPCG(seed, 0)), root: filepath.Join(dir, "root"), outside: filepath.Join(dir, "outside")}
	for _, d := range []string{c.root, c.outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.must(os.WriteFile(filepath.Join(c.root, "keep"), []byte("never empty"), 0o644))
	return c
}

func (c *churner) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// pick returns a random path of the root's: a directory, or a regular file.
// The root itself stands for a directory, "" for no file.
func (c *churner) pick(dir bool) string {
	var found []string
	if dir {
		found = append(found, c.root)
	}
	c.must(filepath.WalkDir(c.root, func(p string, e fs.DirEntry, err error) error {
		if p != c.root && (dir && e.IsDir() || !dir && e.Type().IsRegular()) && p != filepath.Join(c.root, "keep") {
			found = append(found, p)
		}
		return err
	}))
	if len(found) == 0 {
		return ""
	}
	return found[c.rng.IntN(len(found))]
}

// name returns a path in a random directory: few names, so that they are used again.
func (c *churner) name() string {
	return filepath.Join(c.pick(true), string(rune('a'+c.rng.IntN(12))))
}

func (c *churner) content() []byte {
	c.n++
	return fmt.Appendf(nil, "%08d%s", c.n, bytes.Repeat([]byte("x"), c.rng.IntN(3)*2000))
}

// step makes one change. What the disk refuses, as a file where a directory
// is, is no change.
func (c *churner) step() {
	switch c.rng.IntN(16) {
	case 0, 1:
		_ = os.Mkdir(c.name(), 0o755)
	case 2:
		_ = os.MkdirAll(filepath.Join(c.name(), "p", "q"), 0o755)
		_ = os.WriteFile(filepath.Join(c.name(), "p", "q", "f"), c.content(), 0o644)
	case 3, 4, 5:
		_ = os.WriteFile(c.name(), c.content(), 0o644)
	case 6:
		c.rewrite()
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
		if d := c.pick(true); d != c.root && c.rng.IntN(2) == 0 {
			c.must(os.RemoveAll(d))
		}
	case 13:
		_ = os.Link(c.pick(false), c.name())
		_ = os.Symlink(string(rune('a'+c.rng.IntN(12))), c.name())
	case 14:
		c.chmod()
	case 15:
		c.movedIn()
	}
}

// rewrite writes a file twice in the same second, with the same size.
func (c *churner) rewrite() {
	p := c.name()
	for range 2 {
		c.n++
		_ = os.WriteFile(p, fmt.Appendf(nil, "%08d", c.n), 0o644)
	}
}

func (c *churner) appendTo(p string) {
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return
	}
	_, err = f.Write(c.content())
	c.must(err)
	c.must(f.Close())
}

// away moves a directory out, makes another under its name, and may bring the
// first back elsewhere.
func (c *churner) away() {
	d := c.pick(true)
	if d == c.root {
		return
	}
	c.n++
	out := filepath.Join(c.outside, strconv.Itoa(c.n))
	c.must(os.Rename(d, out))
	if c.rng.IntN(2) == 0 {
		c.must(os.Mkdir(d, 0o755))
		c.must(os.WriteFile(filepath.Join(d, "f"), c.content(), 0o644))
	}
	if c.rng.IntN(2) == 0 {
		_ = syscall.Rename(out, c.name())
	}
}

func (c *churner) chmod() {
	if c.rng.IntN(2) == 0 {
		_ = os.Chmod(c.pick(true), []fs.FileMode{0o755, 0o700, 0o775}[c.rng.IntN(3)])
		return
	}
	_ = os.Chmod(c.pick(false), []fs.FileMode{0o644, 0o600, 0o755}[c.rng.IntN(3)])
}

// movedIn brings a directory with old times inside from outside the root.
func (c *churner) movedIn() {
	c.n++
	d := filepath.Join(c.outside, "in"+strconv.Itoa(c.n))
	c.must(os.MkdirAll(filepath.Join(d, "sub"), 0o755))
	old := time.Now().Add(-48 * time.Hour)
	for _, f := range []string{"a", "sub/b"} {
		c.must(os.WriteFile(filepath.Join(d, f), c.content(), 0o644))
		c.must(os.Chtimes(filepath.Join(d, f), old, old))
	}
	_ = syscall.Rename(d, c.name())
}
