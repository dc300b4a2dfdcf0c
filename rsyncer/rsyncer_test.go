package rsyncer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/filter"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// need skips without a tool, but fails where CI is set.
func need(t testing.TB, tool string) string {
	t.Helper()
	found, err := exec.LookPath(tool)
	if err == nil {
		return found
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", tool)
	}
	t.Skipf("%s is missing", tool)
	return ""
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, root, p, text string) {
	t.Helper()
	full := filepath.Join(root, p)
	must(t, os.MkdirAll(filepath.Dir(full), 0o755))
	// Or a process that another test starts has it open too, for the moment until
	// it runs its program, and the file counts as being written.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	must(t, os.WriteFile(full, []byte(text), 0o644))
}

func read(root, p string) string {
	text, err := os.ReadFile(filepath.Join(root, p))
	if err != nil {
		return "missing"
	}
	return string(text)
}

// setup makes a source with one file, "keep", and an empty local target.
func setup(t testing.TB) Config {
	need(t, "rsync")
	cfg := Config{Source: t.TempDir(), Target: t.TempDir(), Log: zerolog.Nop()}
	write(t, cfg.Source, "keep", "keep")
	return cfg
}

func open(t testing.TB, cfg Config) *Rsyncer {
	t.Helper()
	r, err := New(cfg)
	must(t, err)
	return r
}

func entry(paths ...string) (c []fastsync.Change) {
	for _, p := range paths {
		c = append(c, fastsync.Change{Path: p, Scope: fastsync.Entry})
	}
	return c
}

func scoped(p string, s fastsync.Scope) []fastsync.Change {
	return []fastsync.Change{{Path: p, Scope: s}}
}

func ship(t testing.TB, r *Rsyncer, changes []fastsync.Change) fastsync.Outcome {
	t.Helper()
	out, err := r.Sync(context.Background(), fastsync.Live, changes)
	must(t, err)
	if len(out.Bulk) == 0 {
		return out
	}
	bulk := shipBulk(t, r, out.Bulk)
	bulk.Failed, bulk.Again, bulk.Held = append(bulk.Failed, out.Failed...), append(bulk.Again, out.Again...), append(bulk.Held, out.Held...)
	return bulk
}

func shipBulk(t testing.TB, r *Rsyncer, changes []fastsync.Change) fastsync.Outcome {
	t.Helper()
	out, err := r.Sync(context.Background(), fastsync.Bulk, changes)
	must(t, err)
	return out
}

func clean(t testing.TB, out fastsync.Outcome) {
	t.Helper()
	if len(out.Failed)+len(out.Again)+len(out.Held) > 0 {
		t.Fatalf("outcome %+v", out)
	}
}

func compare(t testing.TB, r *Rsyncer, changes []fastsync.Change) (found []string) {
	t.Helper()
	must(t, r.Compare(context.Background(), changes, func(d fastsync.Difference) {
		mark := ""
		if d.Gone {
			mark = " gone"
		}
		if !d.Times {
			found = append(found, d.Path+" "+string(d.Scope)+mark)
		}
	}))
	slices.Sort(found)
	return found
}

func same(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Config{Source: "/nonexistent/x", Target: "-e", RsyncPath: "/nonexistent/rsync"})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three faults: %v", err)
	}
	dir := t.TempDir()
	must(t, os.Symlink(dir, filepath.Join(t.TempDir(), "x")))
	for _, pair := range [][2]string{{dir, dir}, {dir, dir + "/below/new"}, {dir + "/..", dir}, {dir, ""}} {
		if _, err := New(Config{Source: pair[0], Target: pair[1]}); err == nil {
			t.Errorf("no fault in %q", pair)
		}
	}
}

func TestOddNames(t *testing.T) { // facts 1, 15
	cfg := setup(t)
	names := []string{"#a", ";b", "-c", " d ", "e\nf", "g\\#012", "h\xffi", "j*k", "fs:x", "sub/#l"}
	for _, n := range names {
		write(t, cfg.Source, n, n)
	}
	r := open(t, cfg)
	if got := compare(t, r, entry(names...)); len(got) != len(names) {
		t.Fatalf("compare: %q", got)
	}
	out := ship(t, r, entry(names...))
	clean(t, out)
	for _, n := range names {
		if read(cfg.Target, n) != n {
			t.Errorf("%q is not at the target", n)
		}
	}
	same(t, compare(t, r, nil), "keep entry")
}

func TestEqualSizeWithinASecond(t *testing.T) { // fact 2
	cfg := setup(t)
	r := open(t, cfg)
	second := time.Now().Truncate(time.Second)
	for i, text := range []string{"one", "two"} {
		write(t, cfg.Source, "a", text)
		must(t, os.Chtimes(filepath.Join(cfg.Source, "a"), second, second.Add(time.Duration(i+1)*time.Millisecond)))
		clean(t, ship(t, r, entry("a")))
	}
	if got := read(cfg.Target, "a"); got != "two" {
		t.Error(got)
	}
}

func TestScopes(t *testing.T) { // facts 8, 12
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Source, "d/new", "x")
	write(t, cfg.Source, "d/sub/deep", "x")
	write(t, cfg.Target, "d/gone", "x")
	write(t, cfg.Target, "d/sub/stale", "x")
	r := open(t, cfg)
	clean(t, ship(t, r, entry("d")))
	if read(cfg.Target, "d/new") != "missing" || read(cfg.Target, "d/gone") != "x" {
		t.Fatal("an entry is more than itself")
	}
	clean(t, ship(t, r, scoped("d", fastsync.Listing)))
	if read(cfg.Target, "d/new") != "x" || read(cfg.Target, "d/gone") != "missing" || read(cfg.Target, "d/sub/stale") != "x" || read(cfg.Target, "d/sub/deep") != "missing" {
		t.Fatal("a listing is not one level")
	}
	clean(t, ship(t, r, scoped("d", fastsync.Tree)))
	if read(cfg.Target, "d/sub/deep") != "x" || read(cfg.Target, "d/sub/stale") != "missing" {
		t.Fatal("a tree is not all")
	}
	clean(t, ship(t, r, scoped(".", fastsync.Listing)))
	clean(t, ship(t, r, scoped(".", fastsync.Tree)))
	same(t, compare(t, r, nil))
}

func TestWithoutDeletionsFilesRideInTheRunOfTrees(t *testing.T) {
	cfg := setup(t)
	log := filepath.Join(t.TempDir(), "log")
	cfg.RsyncPath = script(t, `echo run >> `+log+`; exec rsync "$@"`)
	for _, p := range []string{"file", "new/a", "new/sub/b", "alone/x", "flat/c", "flat/sub/d", "odd/e/f"} {
		write(t, cfg.Source, p, p)
	}
	must(t, os.Symlink("file", filepath.Join(cfg.Source, "link")))
	write(t, cfg.Target, "flat/extra", "only here")
	write(t, cfg.Target, "new/extra", "only here")
	must(t, os.Chmod(filepath.Join(cfg.Source, "odd"), 0o700))
	batch := append(entry("file", "odd", "link", "alone", "odd/e/f"), scoped("new", fastsync.Tree)...)
	out := shipBulk(t, open(t, cfg), append(batch, scoped("flat", fastsync.Listing)...))
	clean(t, out)
	if runs := read(filepath.Dir(log), "log"); out.Shipped != 7 || strings.Count(runs, "run") != 2 {
		t.Errorf("shipped %d in %q, want 7 in two runs", out.Shipped, runs)
	}
	if info, err := os.Stat(filepath.Join(cfg.Target, "odd")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of a file: %v, want its mode", err)
	}
	for p, want := range map[string]string{
		"file": "file", "link": "file", "new/sub/b": "new/sub/b", "flat/c": "flat/c", "alone/x": "missing",
		"flat/sub/d": "missing", "flat/extra": "only here", "new/extra": "only here",
	} {
		if got := read(cfg.Target, p); got != want {
			t.Errorf("%s is %q, want %q", p, got, want)
		}
	}
}

func TestChangedMeanwhile(t *testing.T) { // fact 11
	cfg := setup(t)
	write(t, cfg.Source, "gone", "x")
	cfg.RsyncPath = script(t, `rsync "$@"; code=$?; echo more >> "`+cfg.Source+`/keep"; rm -f "`+cfg.Source+`/gone"; exit $code`)
	out := ship(t, open(t, cfg), entry("keep", "gone"))
	if len(out.Again) != 2 || out.Shipped != 0 {
		t.Fatalf("%+v", out)
	}
}

func TestPartial(t *testing.T) { // facts 5, 13
	cfg := setup(t)
	write(t, cfg.Source, "d/a", "file")
	write(t, cfg.Source, "d/b", "file")
	write(t, cfg.Target, "d/a/x", "in the way")
	r := open(t, cfg)
	out := ship(t, r, entry("keep", "d/a"))
	if len(out.Failed) != 1 || out.Failed[0].Path != "d/a" || out.Shipped != 1 || !strings.Contains(out.Failed[0].Reason, "d/a") {
		t.Fatalf("entries: %+v", out)
	}
	out = ship(t, r, scoped("d", fastsync.Tree))
	if len(out.Failed) == 0 || read(cfg.Target, "d/b") != "file" {
		t.Fatalf("tree: %+v", out)
	}
}

func TestFilterAndOddFiles(t *testing.T) { // fact 10
	cfg := setup(t)
	cfg.Delete = true
	f, err := filter.New([]string{"cache/"})
	must(t, err)
	cfg.Filter = f
	write(t, cfg.Source, "cache/a", "x")
	write(t, cfg.Target, "cache/old", "x")
	must(t, exec.Command("mkfifo", filepath.Join(cfg.Source, "fifo")).Run())
	r := open(t, cfg)
	clean(t, ship(t, r, entry("cache/a", "cache/old", "fifo")))
	clean(t, ship(t, r, scoped(".", fastsync.Tree)))
	if read(cfg.Target, "cache/a") != "missing" || read(cfg.Target, "cache/old") != "x" {
		t.Error("the filter did not hold")
	}
	same(t, compare(t, r, nil))
}

func TestCompare(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "new/deep/er/file", "x")
	write(t, cfg.Source, "differs", "source")
	write(t, cfg.Target, "differs", "t")
	write(t, cfg.Target, "only/there", "t")
	r := open(t, cfg)
	same(t, compare(t, r, nil), "differs entry", "keep entry", "new tree", "only entry gone", "only/there entry gone")
	same(t, compare(t, r, entry("differs", "only/there"))[:1], "differs entry")
	same(t, compare(t, r, []fastsync.Change{}))
	cfg.Target += "/not/there"
	same(t, compare(t, open(t, cfg), nil), ". tree")
	if _, err := os.Stat(cfg.Target); err == nil {
		t.Error("a comparison made the target")
	}
	clean(t, ship(t, open(t, cfg), scoped(".", fastsync.Tree)))
	same(t, compare(t, open(t, cfg), nil))
}
