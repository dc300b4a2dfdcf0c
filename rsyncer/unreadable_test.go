package rsyncer

import (
	"os"
	"path/filepath"
	"runtime"
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
