package rsyncer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastsync/fastsync"
)

func TestDeletes(t *testing.T) { // fact 7
	cfg := setup(t)
	stale := func() {
		write(t, cfg.Target, "old/a/b", "x")
		write(t, cfg.Target, "z", "x")
	}
	stale()
	out := ship(t, open(t, cfg), entry("old/a/b", "z"))
	if out.Kept != 2 || read(cfg.Target, "z") != "x" {
		t.Fatalf("deleted with deletes off: %+v", out)
	}
	if !out.Untried {
		t.Error("the target counts as asked")
	}
	cfg.Delete = true
	out = ship(t, open(t, cfg), entry("keep", "old/a/b", "z"))
	clean(t, out)
	if out.Untried || out.Deleted != 2 || out.Shipped != 1 || read(cfg.Target, "old/a/b") != "missing" || read(cfg.Target, "z") != "missing" {
		t.Fatalf("%+v", out)
	}
	write(t, cfg.Target, "old/a/b", "x") // a parent that became a file
	write(t, cfg.Source, "old", "file")
	clean(t, ship(t, open(t, cfg), entry("old/a/b")))
	if read(cfg.Target, "old") != "file" {
		t.Error("the file did not take the directory's place")
	}
}

func TestMaxDelete(t *testing.T) {
	cfg := setup(t)
	cfg.Delete, cfg.MaxDelete = true, 2
	gone := []string{"1", "2", "3", "4"}
	for _, n := range gone {
		write(t, cfg.Target, n, "x")
		write(t, cfg.Target, "d/"+n, "x")
	}
	must(t, os.Mkdir(filepath.Join(cfg.Source, "d"), 0o755))
	r := open(t, cfg)
	out := ship(t, r, entry(gone...))
	if out.Deleted != 2 || len(out.Held) != 2 || len(out.Failed) != 0 {
		t.Fatalf("%+v", out)
	}
	if out = ship(t, r, scoped("d", fastsync.Listing)); len(out.Held) != 1 || len(out.Failed) != 0 {
		t.Fatalf("listing: %+v", out)
	}
	free := append(entry(gone...), scoped("d", fastsync.Listing)...)
	for i := range free {
		free[i].Released = true
	}
	clean(t, ship(t, r, free))
	clean(t, ship(t, r, entry("keep")))
	same(t, compare(t, r, nil))
}

func TestRootGone(t *testing.T) { // fact 7, 16a
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Target, "keep", "keep")
	r := open(t, cfg)
	check := func(what string, class fastsync.Class) {
		t.Helper()
		var run *fastsync.RunError
		for _, changes := range [][]fastsync.Change{entry("keep"), scoped(".", fastsync.Tree)} {
			if _, err := r.Sync(context.Background(), fastsync.Live, changes); !errors.As(err, &run) || run.Class != class {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := r.Compare(context.Background(), nil, func(fastsync.Difference) {}); !errors.As(err, &run) {
			t.Errorf("%s: compare: %v", what, err)
		}
		if read(cfg.Target, "keep") != "keep" {
			t.Fatalf("%s: the target's file was deleted", what)
		}
	}
	must(t, os.Remove(filepath.Join(cfg.Source, "keep")))
	check("empty", fastsync.Transient)
	must(t, os.Rename(cfg.Source, cfg.Source+".away"))
	check("missing", fastsync.Transient)
	write(t, cfg.Source, "other", "x")
	check("another", fastsync.Person)
}

// The directory of what is to be deleted becomes a file just before rsync looks:
// that is no fault, and the next look says what is to be done.
func TestADirectoryThatBecomesAFileIsNoFault(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Source, "d/stays", "stays")
	write(t, cfg.Target, "d/gone", "gone")
	dir := filepath.Join(cfg.Source, "d")
	cfg.RsyncPath = script(t, `if [ -d `+dir+` ]; then rm -r `+dir+`; echo file > `+dir+`; fi; exec rsync "$@"`)
	r := open(t, cfg)
	out := ship(t, r, entry("d/gone"))
	if len(out.Failed) > 0 || len(out.Again) != 1 {
		t.Fatalf("%+v", out)
	}
	clean(t, ship(t, r, out.Again))
	if read(cfg.Target, "d") != "file\n" {
		t.Errorf("at the target: %q", read(cfg.Target, "d"))
	}
}
