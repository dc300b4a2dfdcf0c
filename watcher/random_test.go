package watcher

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fastsync/fastsync"
)

// mirror is a Publisher that does what a target would: it looks where each
// event says, as widely as it says, and remembers what is there.
type mirror struct {
	*fake
	root  string
	state sync.Mutex
	has   map[string]string // path → what it is
}

func (m *mirror) Publish(ctx context.Context, events ...fastsync.Event) error {
	m.state.Lock()
	for _, e := range events {
		m.look(e.Path, e.Scope)
	}
	m.state.Unlock()
	return m.fake.Publish(ctx, events...)
}

func (m *mirror) look(p string, scope fastsync.Scope) {
	is := content(filepath.Join(m.root, p))
	if !strings.HasPrefix(is, "dir") {
		maps.DeleteFunc(m.has, func(q, _ string) bool { return strings.HasPrefix(q, p+"/") })
	}
	if is == "" {
		delete(m.has, p)
		return
	}
	m.has[p] = is
	if scope == fastsync.Entry || !strings.HasPrefix(is, "dir") {
		return
	}
	there := map[string]bool{}
	entries, _ := os.ReadDir(filepath.Join(m.root, p))
	for _, e := range entries {
		q := path.Join(p, e.Name())
		there[q] = true
		if scope == fastsync.Tree {
			m.look(q, fastsync.Tree)
		} else {
			m.look(q, fastsync.Entry)
		}
	}
	for q := range m.has {
		if path.Dir(q) == p && q != p && !there[q] {
			m.look(q, fastsync.Entry)
		}
	}
}

// content is all of one path that a target should have, empty for nothing.
func content(p string) string {
	info, err := os.Lstat(p)
	switch {
	case err != nil:
		return ""
	case info.IsDir():
		return "dir " + info.Mode().Perm().String()
	case info.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(p)
		return "link " + to
	}
	text, _ := os.ReadFile(p)
	return fmt.Sprintf("file %v %q", info.Mode().Perm(), text)
}

// world makes changes by chance.
type world struct {
	rand      *rand.Rand
	root, out string
	n         int
	open      []*os.File
	settle    func()
}

// name is a path up to three deep, of few names, so that they are met again.
func (w *world) name() string {
	p := w.root
	for range 1 + w.rand.IntN(3) {
		p = filepath.Join(p, string(rune('a'+w.rand.IntN(3))))
	}
	return p
}

func (w *world) step() {
	a, b := w.name(), w.name()
	w.n++
	text := []byte(fmt.Sprint("text ", w.n))
	switch w.rand.IntN(14) {
	case 0, 1, 2:
		w.write(a, text)
	case 3:
		_ = os.MkdirAll(filepath.Dir(a), 0o700)
		w.write(a, text)
	case 4, 5:
		_ = os.Rename(a, b)
	case 6:
		_ = os.Remove(a)
	case 7:
		_ = os.RemoveAll(a)
	case 8:
		w.link(a, b)
	case 9:
		_ = os.Symlink(fmt.Sprint("to ", w.n), a)
	case 10:
		if info, err := os.Lstat(a); err == nil && info.Mode()&fs.ModeSymlink == 0 {
			_ = os.Chmod(a, 0o700|os.FileMode(w.rand.IntN(8)))
			w.others(a)
		}
	case 11:
		_ = os.Rename(a, filepath.Join(w.out, fmt.Sprint(w.n%4)))
	case 12:
		_ = os.Rename(filepath.Join(w.out, fmt.Sprint(w.n%4)), a)
	case 13:
		w.hold(a)
	}
}

func (w *world) write(p string, text []byte) {
	_ = os.WriteFile(p, text, 0o600)
	w.others(p)
}

// others waits where a changed file has other names: they are looked for when
// the name that was used is looked at, so it must not be gone by then.
func (w *world) others(p string) {
	if several(p) {
		w.settle()
	}
}

// link leaves open files alone, for the same reason.
func (w *world) link(a, b string) {
	info, err := os.Lstat(a)
	for _, f := range w.open {
		if open, openErr := f.Stat(); err != nil || openErr != nil || os.SameFile(open, info) {
			return
		}
	}
	_ = os.Link(a, b)
}

// several tells whether a file has several names.
func several(p string) bool {
	info, err := os.Lstat(p)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}

// hold keeps up to three files open for writing, and writes the oldest to its end.
func (w *world) hold(p string) {
	if info, err := os.Lstat(p); err == nil && !info.Mode().IsRegular() || several(p) {
		return
	}
	if f, err := os.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		_, _ = f.WriteString("begun ")
		w.open = append(w.open, f)
	}
	if len(w.open) > 3 {
		w.release(1)
	}
}

func (w *world) release(n int) {
	for _, f := range w.open[:n] {
		_, _ = f.WriteString("ended")
		_ = f.Close()
	}
	w.open = w.open[n:]
}

// Whatever happens, whoever looks where the events say ends up with what is there.
func TestRandomChanges(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			var ended [][]string
			eachBackend(t, func(t *testing.T, by func(*Watcher)) { ended = append(ended, randomChanges(t, seed, by)) })
			if len(ended) == 2 && !slices.Equal(ended[0], ended[1]) {
				t.Errorf("one ended with %q, the other with %q", ended[0], ended[1])
			}
		})
	}
}

// randomChanges returns the paths that the mirror has in the end.
func randomChanges(t *testing.T, seed uint64, by func(*Watcher)) []string {
	top := t.TempDir()
	w := &world{rand: rand.New(rand.NewPCG(seed, 1)), root: filepath.Join(top, "root"), out: filepath.Join(top, "out")}
	for _, dir := range []string{w.root, w.out} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := &mirror{fake: newFake(), root: w.root, has: map[string]string{fastsync.Root: content(w.root)}} // as a target has it
	r := start(t, w.root, func(w *Watcher) { by(w); w.cfg.Publisher = m })
	r.fake = m.fake
	w.settle = r.settle
	for range 5 {
		for range 200 {
			w.step()
		}
		r.settle()
	}
	w.release(len(w.open))
	r.settle()
	var differs string
	t.Cleanup(func() {
		if differs != "" {
			t.Log(differs)
		}
	})
	eventually(t, "the mirror has what is there", func() bool { differs = m.differs(); return differs == "" })
	m.state.Lock()
	defer m.state.Unlock()
	return slices.Sorted(maps.Keys(m.has))
}

// differs names the first difference between the mirror and the root.
func (m *mirror) differs() string {
	m.state.Lock()
	defer m.state.Unlock()
	seen := map[string]bool{}
	first := ""
	_ = filepath.WalkDir(m.root, func(p string, _ fs.DirEntry, _ error) error {
		q, _ := filepath.Rel(m.root, p)
		seen[q] = true
		if is := content(p); m.has[q] != is && first == "" {
			first = fmt.Sprintf("%s is %s, the mirror has %s", q, is, m.has[q])
		}
		return nil
	})
	for q := range m.has {
		if !seen[q] && first == "" {
			first = q + " is gone, the mirror has it"
		}
	}
	return first
}
