package rsyncer

import (
	"context"
	"fmt"
	"testing"

	"github.com/fastsync/fastsync"
)

// rsync leaves out all deletions of a run that cannot read one directory. What was
// to be deleted elsewhere in it is not done by that, though rsync names none of it.
func TestDeletionsThatAnotherPathHinderedGoRoundAgain(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Source, "bad/f", "f")
	write(t, cfg.Source, "good/f", "f")
	write(t, cfg.Target, "bad/f", "x")
	write(t, cfg.Target, "good/gone", "x")
	// After the look a directory comes where the target has a file: it is read for
	// deletions, but not made by their run.
	late := cfg.Source + "/bad/late"
	cfg.RsyncPath = script(t, `case "$*" in *--ignore-existing*)
	[ -e `+late+` ] || { mkdir `+late+`; echo x >`+late+`/f; echo x >`+cfg.Target+`/bad/late; };; esac
exec `+need(t, "rsync")+` "$@"`)
	r := open(t, cfg)
	changes := append(scoped("bad", fastsync.Tree), scoped("good", fastsync.Tree)...)
	out := ship(t, r, changes)
	again := map[string]bool{}
	for _, c := range out.Again {
		again[c.Path] = true
	}
	if read(cfg.Target, "good/gone") == "missing" || !again["good"] {
		t.Fatalf("%+v; it must go round again while good/gone is there", out)
	}
	clean(t, ship(t, r, changes))
	if read(cfg.Target, "good/gone") != "missing" || read(cfg.Target, "bad/late/f") != "x\n" {
		t.Error("the second run did not do it")
	}
}

// A target that is full needs the deletions to take anything again: they must
// not wait for what has no room.
func TestDeletionsMakeRoom(t *testing.T) {
	for name, others := range map[string]int{"one look": 0, "looked ahead": maxJobs} {
		t.Run(name, func(t *testing.T) { deletionsMakeRoom(t, others) })
	}
}

// deletionsMakeRoom has so many other files that do not fit, of which the last
// were looked at while the first were to ship.
func deletionsMakeRoom(t *testing.T, others int) {
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Target, "large", "x")
	made := t.TempDir() + "/room"
	cfg.RsyncPath = script(t, `case "$*" in *--delete-missing-args*) >`+made+`;; esac
[ -e `+made+` ] || { cat >/dev/null; echo 'rsync: [receiver] mkstemp "/t/.keep.AbCdEf" failed: No space left on device (28)' >&2; exit 11; }
exec `+need(t, "rsync")+` "$@"`)
	r := open(t, cfg)
	changes := entry("keep")
	for i := range others {
		name := fmt.Sprint("other", i)
		write(t, cfg.Source, name, "x")
		changes = append(changes, entry(name)...)
	}
	changes = append(changes, entry("large")...)
	if _, err := r.Sync(context.Background(), fastsync.Live, changes); fastsync.ClassOf(err) != fastsync.Full {
		t.Fatalf("a target without room: %v", err)
	}
	if read(cfg.Target, "large") != "missing" {
		t.Fatal("what is gone is still there")
	}
	clean(t, ship(t, r, changes))
	if read(cfg.Target, "keep") != "keep" {
		t.Error("what has room now is not there")
	}
}

// A directory that was gone at the look and is there again, empty, when the run
// comes to it: what was in the old one has to go.
func TestADirectoryThatIsBackIsLookedAtAgain(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Target, "d/of the old one", "x")
	cfg.RsyncPath = script(t, `case "$*" in *--delete-missing-args*) mkdir -p `+cfg.Source+`/d;; esac
exec `+need(t, "rsync")+` "$@"`)
	r := open(t, cfg)
	changes := scoped("d", fastsync.Tree)
	out := ship(t, r, changes)
	if len(out.Again) != 1 || out.Again[0] != changes[0] {
		t.Fatalf("%+v, want it to go round again as a tree", out)
	}
	clean(t, ship(t, r, out.Again))
	if read(cfg.Target, "d/of the old one") != "missing" {
		t.Error("what was in the old directory is still there")
	}
}
