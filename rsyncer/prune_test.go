package rsyncer

import (
	"testing"

	"github.com/fastsync/fastsync"
)

// A directory that is told as new may have one of its name at the target, of
// which nobody saw that it went.
func TestANewDirectoryKeepsNothingOfAnOldOne(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	r := open(t, cfg)
	for _, scope := range []fastsync.Scope{fastsync.Listing, fastsync.Tree} {
		d := string(scope)
		write(t, cfg.Target, d+"/old", "x")
		write(t, cfg.Target, d+"/below/old", "x")
		write(t, cfg.Source, d+"/new", "x")
		write(t, cfg.Source, d+"-beside/new", "x") // which the target does not have
		clean(t, ship(t, r, append(scoped(d+"-beside", scope), scoped(d, scope)...)))
	}
	same(t, compare(t, r, nil), "keep entry")
}

// What the target did not have needs no run that looks for what is gone of it.
func TestADirectoryThatIsNewAtTheTargetTakesOneRun(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	dir := t.TempDir()
	cfg.RsyncPath = script(t, `echo >> `+dir+`/runs; exec `+need(t, "rsync")+` "$@"`)
	r := open(t, cfg)
	for i, scope := range []fastsync.Scope{fastsync.Listing, fastsync.Tree} {
		d := string(scope)
		write(t, cfg.Source, d+"/new", "x")
		clean(t, ship(t, r, scoped(d, scope)))
		if n := len(read(dir, "runs")); n != i+1 {
			t.Errorf("%s: %d runs so far", scope, n)
		}
	}
	same(t, compare(t, r, nil), "keep entry")
}

// What one run has made is left out of the next, which may delete others of its list.
func TestADirectoryGoesWhileAnotherIsNew(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Source, "d/b/f", "x")
	write(t, cfg.Target, "d/b/f", "x")
	write(t, cfg.Source, "new/f", "x")
	cfg.RsyncPath = script(t, `case "$*" in *--ignore-existing*) rm -r `+cfg.Source+`/d/b;; esac; exec `+need(t, "rsync")+` "$@"`)
	r := open(t, cfg)
	changes := append(scoped("new", fastsync.Listing), scoped("d", fastsync.Listing)...)
	ship(t, r, append(changes, scoped("d/b", fastsync.Listing)...))
	if read(cfg.Target, "new/f") != "x" || read(cfg.Target, "d/b/f") != "missing" {
		t.Error("not done")
	}
}
