package watcher

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// group is a marked fanotify without a reader: the test reads.
type group struct {
	*fanotify
	t *testing.T
}

func mark(t *testing.T, root string) group {
	t.Helper()
	needFanotify(t, t.TempDir())
	f, err := openFanotify(root, mostPlaces, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	if err := f.mark(); err != nil {
		t.Fatal(err)
	}
	return group{f, t}
}

// paths are those of all events until now, in order, neighbours once.
func (g group) paths() []string {
	g.t.Helper()
	var found []string
	buf := make([]byte, bufferSize)
	for {
		n, err := again(func() (int, error) { return unix.Read(g.group, buf) })
		if errors.Is(err, unix.EAGAIN) {
			return slices.Compact(found)
		}
		if err == nil {
			err = g.changes(buf[:n], func(c change) { found = append(found, c.path) })
		}
		if err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g group) want(paths ...string) {
	g.t.Helper()
	if got := g.paths(); !slices.Equal(got, paths) {
		g.t.Errorf("events of %q, want %q", got, paths)
	}
}

func (g group) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g group) write(path string) {
	g.t.Helper()
	g.must(os.WriteFile(path, []byte("x"), 0o600))
}

// A directory that moves takes all below it along, and the memory with it.
func TestPlacesStayRightThroughMoves(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	at := func(p string) string { return filepath.Join(root, p) }
	if err := errors.Join(os.MkdirAll(at("a/x"), 0o700), os.MkdirAll(filepath.Join(top, "out/y"), 0o700)); err != nil {
		t.Fatal(err)
	}
	g := mark(t, root)
	g.write(at("a/x/f"))
	g.write(filepath.Join(top, "out/y/f"))
	g.want("a/x/f")
	g.must(os.Rename(at("a"), at("b")))
	g.write(at("b/x/f"))
	g.want("a", "b", "b/x/f")
	// From outside to inside, and back.
	g.must(os.Rename(filepath.Join(top, "out"), at("in")))
	g.write(at("in/y/f"))
	g.want("in", "in/y/f")
	g.must(os.Rename(at("in"), filepath.Join(top, "out")))
	g.write(filepath.Join(top, "out/y/f"))
	g.want("in")
	g.must(os.RemoveAll(at("b/x")))
	g.want("b/x") // with what was in it gone before it was looked up
}

func TestPlacesFollowTheRoot(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "above/root")
	if err := os.MkdirAll(filepath.Join(root, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	g := mark(t, root)
	g.write(filepath.Join(root, "d/f"))
	g.want("d/f")
	g.must(os.Rename(filepath.Join(top, "above"), filepath.Join(top, "moved")))
	g.write(filepath.Join(top, "moved/root/d/f"))
	g.want(".") // the root is away, and nobody must be told of deletions in it
	// The same root, reached by another way above it.
	g.must(os.Symlink("moved", filepath.Join(top, "above")))
	g.write(filepath.Join(root, "d/f"))
	g.want("d/f")
	// Another directory has the root's name.
	g.must(os.Remove(filepath.Join(top, "above")))
	g.must(os.MkdirAll(filepath.Join(root, "d"), 0o700))
	g.write(filepath.Join(root, "d/f"))
	g.want(".")
}

func TestTheRootsOwnNameIsWatched(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	g := mark(t, root)
	g.must(os.Rename(root, root+".old"))
	g.must(os.Rename(root+".old", root)) // back before anybody looks
	g.want(".")
}

func TestPlacesOfOddNames(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root (deleted)")
	if err := os.MkdirAll(filepath.Join(root, "d (deleted)"), 0o700); err != nil {
		t.Fatal(err)
	}
	g := mark(t, root)
	g.write(filepath.Join(root, "d (deleted)", "a\nb \xff"))
	g.want("d (deleted)/a\nb \xff")
}

// A directory that somebody still has open can be found when it is gone.
func TestPlacesOfWhatIsGone(t *testing.T) {
	root := t.TempDir()
	d := filepath.Join(root, "d")
	g := mark(t, root)
	g.must(os.Mkdir(d, 0o700))
	open, err := os.Open(d)
	g.must(err)
	defer open.Close()
	g.write(filepath.Join(d, "f"))
	g.must(os.RemoveAll(d))
	g.want("d")
}

// What happens outside the root costs one look-up a directory, however much it is.
func TestNoPathIsBuiltOutsideTheRoot(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := t.TempDir()
	mountAt(t, "tmpfs", "none", top, "", 0) // nobody else is on it
	root, out := filepath.Join(top, "root"), filepath.Join(top, "out")
	if err := errors.Join(os.Mkdir(root, 0o700), os.Mkdir(out, 0o700)); err != nil {
		t.Fatal(err)
	}
	g := mark(t, root)
	g.located = 0
	for i := range 1000 {
		g.write(filepath.Join(out, strconv.Itoa(i)))
	}
	g.want()
	if g.located != 1 {
		t.Errorf("%d paths were looked up for 1000 files in one directory, want 1", g.located)
	}
}

func TestPlacesAreBounded(t *testing.T) {
	p := newPlaces(10)
	for i := range 1000 {
		p.put([]byte(strconv.Itoa(i)), "x")
		if _, ok := p.get([]byte("0")); !ok {
			t.Fatalf("what is used all the time is forgotten after %d", i)
		}
	}
	if n := len(p.young) + len(p.old); n > 20 {
		t.Errorf("%d are kept, want at most 20", n)
	}
	p.clear()
	if _, ok := p.get([]byte("0")); ok {
		t.Error("something is left after clear")
	}
}

// The marks of an overflow and of what is no event tell that events were lost.
func TestLostEventsAreTold(t *testing.T) {
	g := mark(t, t.TempDir())
	overflow := encoded(unix.FAN_Q_OVERFLOW, unix.FAN_EVENT_INFO_TYPE_PIDFD, nil, "")
	for what, b := range map[string][]byte{"an overflow": overflow, "garbage": []byte("garbage"), "a cut event": overflow[:len(overflow)-1]} {
		g.places.put([]byte("x"), "x")
		if err := g.changes(b, func(change) {}); err == nil {
			t.Errorf("%s is taken for nothing", what)
		}
		if _, ok := g.places.get([]byte("x")); ok {
			t.Errorf("after %s a place is kept whose directory may have moved", what)
		}
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		at   step
		err  error
		want string
	}{
		{stepInit, unix.EPERM, "CAP_SYS_ADMIN"}, {stepHandle, unix.EPERM, "CAP_DAC_READ_SEARCH"}, {stepInit, unix.ENOSYS, "Linux 5.9"},
		{stepInit, unix.EINVAL, "Linux 5.9"}, {stepInit, unix.EMFILE, "max_user_groups"}, {stepMark, unix.ENOSPC, "max_user_marks"},
		{stepMark, errShared, "(kind) belongs to another host or program"}, {stepMark, unix.EXDEV, "subvolume"}, {stepMark, unix.ENODEV, "(kind) has no id"}, {stepMark, unix.EOPNOTSUPP, "(kind) has no file handles"},
	} {
		err := refuse(c.at, c.err, "kind")
		if !errors.Is(err, errRefused) || !errors.Is(err, c.err) || !contains(err, c.want) {
			t.Errorf("%v at step %d: %v, want %q in it", c.err, c.at, err, c.want)
		}
	}
	if got := unseen([]string{"a", "b", "c", "d"}); !contains(errors.New(got), `"a", "b", "c" and 1 more are`) || unseen(nil) != "" {
		t.Error(got)
	}
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// Without a free descriptor nobody can tell where a change was: it is lost, and looked
// for, but the root is no more away than it was.
func TestARootThatCannotBeOpenedNowIsNotAway(t *testing.T) {
	root := t.TempDir()
	g := mark(t, root)
	g.write(filepath.Join(root, "f"))
	buf := make([]byte, bufferSize)
	n, err := unix.Read(g.group, buf)
	g.must(err)
	lack := descriptors(t)
	lack(true)
	err = g.changes(buf[:n], func(c change) { t.Errorf("it tells of %+v", c) })
	lack(false)
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("lost %v, want the missing descriptor to be said", err)
	}
	g.must(os.RemoveAll(root))
	if _, err := g.find([]byte("any")); !errors.Is(err, errAway) {
		t.Errorf("where the root was removed: %v", err)
	}
}
