package rsyncer

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/fastsync/fastsync"
	"golang.org/x/sys/unix"
)

const nobody = 65534

// strangers makes a source and a target for an rsync, and looks, of a user's who may
// not read everything, also where tests run as root.
func strangers(t *testing.T) Config {
	t.Helper()
	cfg := setup(t)
	cfg.RsyncPath = asNobody(t)
	if os.Geteuid() == 0 {
		must(t, os.Chown(cfg.Target, nobody, nobody))
	}
	return cfg
}

// asStranger does something with that user's right to files. Only this thread has it.
func asStranger(do func()) {
	if os.Geteuid() != 0 {
		do()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Setfsuid(nobody)
	defer func() { _ = unix.Setfsuid(0) }()
	do()
}

// shut takes rights to a directory of the source away until the test ends.
func shut(t *testing.T, cfg Config, dir string, mode os.FileMode) {
	t.Helper()
	full := filepath.Join(cfg.Source, dir)
	must(t, os.Chmod(full, mode))
	t.Cleanup(func() { must(t, os.Chmod(full, 0o755)) })
}

// Nothing of it ships, and it must not be told as delivered.
func TestADirectoryThatMayNotBeReadIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		dir    string
		mode   os.FileMode
		scope  fastsync.Scope
		remove bool
	}{
		"listing":             {"d", 0, fastsync.Listing, false},
		"tree":                {"d", 0, fastsync.Tree, false},
		"with deletions":      {"d", 0, fastsync.Tree, true},
		"below":               {"d/sub", 0, fastsync.Tree, false},
		"only its names":      {"d", 0o744, fastsync.Listing, false},
		"only the names of d": {"d/sub", 0o744, fastsync.Tree, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := strangers(t)
			cfg.Delete = c.remove
			write(t, cfg.Source, "d/sub/f", "x")
			write(t, cfg.Source, "good/f", "x")
			shut(t, cfg, c.dir, c.mode)
			r := open(t, cfg)
			var out fastsync.Outcome
			asStranger(func() { out = ship(t, r, append(scoped("d", c.scope), scoped("good", c.scope)...)) })
			if len(out.Failed) == 0 || out.Failed[0].Path != "d" || len(out.Again) > 0 {
				t.Errorf("%+v, want d as failed", out)
			}
			if read(cfg.Target, "good/f") != "x" {
				t.Error("what can be read did not ship")
			}
		})
	}
}

// Its files are not told as delivered because rsync says nothing of each.
func TestADirectoryThatIsShutBeforeItsListingIsNamed(t *testing.T) {
	cfg := strangers(t)
	cfg.RsyncPath = script(t, `chmod 0 `+cfg.Source+`/d; exec `+cfg.RsyncPath+` "$@"`)
	must(t, os.Chmod(filepath.Dir(cfg.RsyncPath), 0o755))
	must(t, os.Mkdir(filepath.Join(cfg.Source, "d"), 0o755))
	shut(t, cfg, "d", 0o755)
	changes := many(t, cfg, "d", 60, 60)
	out := ship(t, open(t, cfg), append(changes, entry("keep")...))
	if len(out.Failed) != 60 || out.Shipped != 1 || read(cfg.Target, "keep") != "keep" {
		t.Errorf("%+v", out)
	}
}

func TestADirectoryOfTheRootThatMayNotBeReadIsNamed(t *testing.T) {
	for _, remove := range []bool{false, true} {
		cfg := strangers(t)
		cfg.Delete = remove
		write(t, cfg.Source, "d/sub/f", "x")
		write(t, cfg.Source, "good/f", "x")
		shut(t, cfg, "d/sub", 0)
		r := open(t, cfg)
		var out fastsync.Outcome
		asStranger(func() { out = ship(t, r, scoped(fastsync.Root, fastsync.Tree)) })
		named := slices.ContainsFunc(out.Failed, func(f fastsync.Failure) bool { return f.Path == "d/sub" })
		if !named || len(out.Again) > 0 || read(cfg.Target, "good/f") != "x" {
			t.Errorf("with deletions %v: %+v, want d/sub as failed", remove, out)
		}
	}
}

// Of a run that says more than is kept, silence is no proof.
func TestMoreFailuresThanMessagesAreKeptAreAllNamed(t *testing.T) {
	const many = maxNotes + 100
	cfg := strangers(t)
	var changes []fastsync.Change
	for i := range many {
		dir := fmt.Sprint("shut", i)
		must(t, os.Mkdir(filepath.Join(cfg.Source, dir), 0))
		changes = append(changes, scoped(dir, fastsync.Tree)...)
	}
	out := shipBulk(t, open(t, cfg), append(changes, entry("keep")...))
	if len(out.Failed) != many || out.Shipped != 1 {
		t.Errorf("%d failed, %d shipped, %d again", len(out.Failed), out.Shipped, len(out.Again))
	}
	out = shipBulk(t, open(t, cfg), scoped(fastsync.Root, fastsync.Tree))
	if !slices.ContainsFunc(out.Failed, func(f fastsync.Failure) bool { return f.Path == fastsync.Root }) {
		t.Errorf("%d failed and %d shipped of a tree with all", len(out.Failed), out.Shipped)
	}
}
