package rsyncer

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func plainCompare(t *testing.T, source, target string) string {
	t.Helper()
	out, err := exec.Command("rsync", "-anic", "--delete", "--modify-window=-1", source+"/", target+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("compare: %v: %s", err, out)
	}
	return string(out)
}

func TestSettleSetsTheTimesOfDirectoriesAndNothingElse(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	for _, p := range []string{"d/e/f", "d/gone", "tree/x/y", "r"} {
		write(t, source, p, "1")
	}
	r := open(t, Config{Source: source, Target: target, Delete: true})
	changes := []fastsync.Change{
		{Path: "d/e/f", Scope: fastsync.Entry}, {Path: "d/gone", Scope: fastsync.Entry},
		{Path: "tree", Scope: fastsync.Tree}, {Path: "r", Scope: fastsync.Entry},
	}
	ctx := context.Background()
	ship(t, r, changes)
	must(t, os.Remove(filepath.Join(source, "d/gone")))
	ship(t, r, changes)
	old := time.Unix(1_000_000_000, 0)
	for _, dir := range []string{"d/e", "d", "tree/x", "tree", "."} {
		must(t, os.Chtimes(filepath.Join(source, dir), old, old))
	}
	if out := plainCompare(t, source, target); strings.Count(out, ".d..t......") != 5 {
		t.Fatalf("the times of five directories should differ before:\n%s", out)
	}
	must(t, r.Settle(ctx, changes))
	if out := plainCompare(t, source, target); out != "" {
		t.Fatalf("root and target differ:\n%s", out)
	}
	// What differs beside the directories stays as it is.
	write(t, source, "d/e/f", "22")
	write(t, source, "d/new/f", "1")
	must(t, os.Remove(filepath.Join(source, "tree/x/y")))
	must(t, r.Settle(ctx, changes))
	got := plainCompare(t, source, target)
	for _, want := range []string{"*deleting   tree/x/y", "cd+++++++++ d/new/", "d/e/f"} {
		if !strings.Contains(got, want) {
			t.Errorf("Settle did more than set times: %q is not in\n%s", want, got)
		}
	}
}

func TestCompareNamesWhatItCouldNotRead(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	for _, p := range []string{"open", "shut"} {
		if err := os.Mkdir(filepath.Join(source, p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, p, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("rsync", "-a", source+"/", target+"/").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(source, "open", "g"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(source, "shut"), 0); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Source: source, Target: target, RsyncPath: asNobody(t)})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	err = r.Compare(context.Background(), nil, func(d fastsync.Difference) { found = append(found, d.Path) })
	var unread *fastsync.Unread
	if !errors.As(err, &unread) || len(unread.Failures) != 1 || unread.Failures[0].Path != "shut" {
		t.Fatalf("got error %v, want one that names \"shut\" as unread", err)
	}
	if !slices.Contains(found, "open/g") || slices.Contains(found, "shut/f") {
		t.Fatalf("found %q, want open/g and nothing of what could not be read", found)
	}
}

// asNobody is an rsync that may not read everything, also where tests run as root.
func asNobody(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return "rsync"
	}
	dir := t.TempDir()
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(dir, "rsync")
	text := "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups rsync \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// A sweep tells of directories whose times differ, as such.
func TestCompareTellsOfTimes(t *testing.T) {
	cfg := setup(t)
	r := open(t, cfg)
	write(t, cfg.Source, "d/f", "x")
	clean(t, ship(t, r, scoped(fastsync.Root, fastsync.Tree)))
	must(t, r.Settle(context.Background(), scoped(fastsync.Root, fastsync.Tree)))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(cfg.Source, "d"), old, old))
	var got []fastsync.Difference
	must(t, r.Compare(context.Background(), nil, func(d fastsync.Difference) { got = append(got, d) }))
	if len(got) != 1 || got[0].Path != "d" || !got[0].Times || got[0].Gone {
		t.Fatalf("found %+v, want the time of d", got)
	}
	must(t, r.Settle(context.Background(), []fastsync.Change{got[0].Change}))
	must(t, r.Compare(context.Background(), nil, func(d fastsync.Difference) { t.Errorf("still differs: %+v", d) }))
}
