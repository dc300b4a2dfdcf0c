package watcher

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

func TestLister(t *testing.T) {
	dir := t.TempDir()
	want := map[string]uint8{"d": unix.DT_DIR, "l": unix.DT_LNK, "f": unix.DT_REG, "p": unix.DT_FIFO}
	if err := errorsFirst(os.Mkdir(filepath.Join(dir, "d"), 0o700), os.Symlink("d", filepath.Join(dir, "l")),
		os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), unix.Mkfifo(filepath.Join(dir, "p"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for i := range 300 { // more than one buffer of it
		name := strings.Repeat("n", 200) + strconv.Itoa(i)
		want[name] = unix.DT_REG
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var l lister
	got, asked := map[string]uint8{}, map[string]uint8{}
	if err := l.each(dir, func(fd int, name []byte, kind uint8) bool {
		got[string(name)], asked[string(name)] = kind, kindOf(fd, string(name))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) || !maps.Equal(asked, want) {
		t.Errorf("listed %v\nasked %v\nwant %v", got, asked, want)
	}
}

// A catch-up looks into nothing that is left out, and follows no link.
func TestCatchUpKeepsOutOfWhatIsExcluded(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := errorsFirst(os.MkdirAll(filepath.Join(root, "cache/deep"), 0o700), os.Mkdir(filepath.Join(outside, "secret"), 0o700),
		os.Symlink(outside, filepath.Join(root, "link"))); err != nil {
		t.Fatal(err)
	}
	f := newFake()
	w, err := New(Config{Root: root, Publisher: f, Mode: Off, Excluded: func(p string, _ bool) bool {
		if strings.Contains(p, "/") {
			t.Errorf("it looked at %s", p)
		}
		return p == "cache"
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, since := range []time.Time{{}, time.Now().Add(-time.Hour)} {
		if err := w.CatchUp(t.Context(), since); err != nil {
			t.Fatal(err)
		}
	}
	if f.count("cache") != 0 || count(f.events, "link", fastsync.Entry) != 1 || count(f.events, ".", "") != 2 {
		t.Errorf("published %v", f.events)
	}
}

// A directory that cannot be opened for want of descriptors is waited for, and then
// ends a catch-up, which is tried again: what is in it must not be passed over.
func TestADirectoryThatCannotBeReadNowIsNotPassedOver(t *testing.T) {
	w := still(t, newFake()).w
	dir := filepath.Join(w.cfg.Root, "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lack := descriptors(t)
	c := catchUp{w: w, ctx: t.Context(), names: lister{wait: scarce}}
	lack(true)
	time.AfterFunc(scarce/2, func() { lack(false) })
	if err := c.look(place{abs: dir}); err != nil {
		t.Errorf("after half the time there are descriptors: %v", err)
	}
	lack(true)
	err := c.look(place{abs: dir})
	lack(false)
	if err == nil {
		t.Error("it was passed over")
	}
}

// Nor is it by a walk that watches: it comes back to it.
func TestADirectoryThatCannotBeListedNowIsWatchedAndPublishedLater(t *testing.T) {
	l := idle(t)
	if err := os.MkdirAll(l.w.abs("d/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	lack := descriptors(t)
	lack(true)
	l.enter("d", l.good)
	l.tick(t.Context(), time.Now(), false)
	lack(false)
	if len(l.ready) > 0 || l.more() != nil {
		t.Errorf("without descriptors it published %v, or goes on without a pause", l.ready)
	}
	l.tick(t.Context(), time.Now(), false)
	for len(l.tree.walks) > 0 {
		l.step()
	}
	if e := l.ready["d"]; e.Scope != fastsync.Tree || !l.tree.knows("d/sub") || l.tree.starved() {
		t.Errorf("published %q, knows d/sub: %v", e.Scope, l.tree.knows("d/sub"))
	}
}

// descriptors takes all free ones away from this process, or gives them back.
func descriptors(t *testing.T) (lack func(bool)) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	return func(on bool) {
		to := &limit
		if on {
			to = &none
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, to); err != nil {
			t.Error(err)
		}
	}
}
