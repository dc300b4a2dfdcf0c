package rsyncer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fastsync/fastsync"
)

// parted is a source and a target with parts of files and other things that
// only the target has.
func parted(t *testing.T, source, target string) {
	t.Helper()
	for _, name := range []string{"d/new", "d/changed", "d/e/x", "f/x"} {
		write(t, source, name, "source")
	}
	for _, name := range []string{
		"d/changed", "d/extra", "d/old.fastsync-partial/x", "extra/x",
		".fastsync-partial/big", "d/.fastsync-partial/big", "d/e/.fastsync-partial/big", "f/.fastsync-partial/big",
	} {
		write(t, target, name, "target")
	}
}

// left are the folders of parts that the target still has. All else must be as
// it was.
func left(t *testing.T, target string) []string {
	t.Helper()
	for name, want := range map[string]string{
		"d/new": "missing", "d/changed": "target", "d/extra": "target", "d/old.fastsync-partial/x": "target", "extra/x": "target",
	} {
		if got := read(target, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	var found []string
	for _, dir := range []string{".", "d", "d/e", "f"} {
		if read(target, dir+"/.fastsync-partial/big") != "missing" {
			found = append(found, dir)
		}
	}
	return found
}

// Parts of files go also with deletions off, from where they are asked for, and
// nothing else does.
func TestTidy(t *testing.T) {
	for name, c := range map[string]struct {
		changes []fastsync.Change
		left    []string
	}{
		"everywhere": {nil, nil},
		"an entry":   {entry("d/changed", "gone/x"), []string{".", "d/e", "f"}},
		"a listing":  {scoped("d", fastsync.Listing), []string{".", "d/e", "f"}},
		"a tree":     {scoped("d", fastsync.Tree), []string{".", "f"}},
		"the root":   {scoped(fastsync.Root, fastsync.Listing), []string{"d", "d/e", "f"}},
		"nowhere":    {entry("../d/changed"), []string{".", "d", "d/e", "f"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := setup(t)
			parted(t, cfg.Source, cfg.Target)
			must(t, open(t, cfg).Tidy(context.Background(), c.changes))
			if got := left(t, cfg.Target); !slices.Equal(got, c.left) {
				t.Errorf("parts are left in %v, want %v", got, c.left)
			}
		})
	}
}

func TestTidyRemote(t *testing.T) {
	for _, pull := range []bool{false, true} {
		remotes(t, pull, func(t *testing.T, cfg Config, source, target string) {
			parted(t, source, target)
			must(t, open(t, cfg).Tidy(context.Background(), entry("d/changed")))
			if got := left(t, target); !slices.Equal(got, []string{".", "d/e", "f"}) {
				t.Errorf("parts are left in %v", got)
			}
		})
	}
}

// A sweep finds parts of files, as folders, and takes none at the source for
// something to ship.
func TestCompareFindsParts(t *testing.T) {
	cfg := setup(t)
	parted(t, cfg.Source, cfg.Target)
	write(t, cfg.Source, "f/.fastsync-partial/mine", "source")
	var parts []string
	must(t, open(t, cfg).Compare(context.Background(), nil, func(d fastsync.Difference) {
		if partial(d.Path) == "" {
			return
		}
		if !d.Gone || d.Scope != fastsync.Tree {
			t.Errorf("%+v", d)
		}
		parts = append(parts, d.Path)
	}))
	slices.Sort(parts)
	if want := []string{".fastsync-partial", "d/.fastsync-partial", "d/e/.fastsync-partial", "f/.fastsync-partial"}; !slices.Equal(parts, want) {
		t.Errorf("found %v, want %v", parts, want)
	}
}

// A directory that became a link is not tidied through it.
func TestTidyFollowsNoLink(t *testing.T) {
	cfg := setup(t)
	outside := t.TempDir()
	write(t, outside, ".fastsync-partial/precious", "x")
	for _, dir := range []string{cfg.Source, cfg.Target} {
		must(t, os.Symlink(outside, filepath.Join(dir, "d")))
	}
	must(t, open(t, cfg).Tidy(context.Background(), entry("d/x")))
	if read(outside, ".fastsync-partial/precious") != "x" {
		t.Error("it went through the link")
	}
}
