package rsyncer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func TestSymlinkedParent(t *testing.T) { // fact 6
	cfg := setup(t)
	outside := t.TempDir()
	write(t, outside, "secret", "x")
	write(t, cfg.Source, "in/file", "x")
	must(t, os.Symlink(outside, filepath.Join(cfg.Source, "out")))
	must(t, os.Symlink("in", filepath.Join(cfg.Source, "link")))
	r := open(t, cfg)
	out := ship(t, r, entry("out/secret", "link/file", "out"))
	if len(out.Failed) != 0 || out.Kept != 2 || out.Shipped != 1 || read(cfg.Target, "out/secret") != "x" {
		t.Fatalf("%+v", out) // the link itself ships, and leads to the same place
	}
	if info, err := os.Lstat(filepath.Join(cfg.Target, "out")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the parent became a directory")
	}
}

// A directory that became a link is a link at the target too, and what was
// asked for below it is no failure that stays.
func TestDirectoryBecomesALink(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	write(t, cfg.Source, "v2/x", "x")
	write(t, cfg.Target, "d/x", "x")
	must(t, os.Symlink("v2", filepath.Join(cfg.Source, "d")))
	clean(t, ship(t, open(t, cfg), entry("d/x")))
	if to, err := os.Readlink(filepath.Join(cfg.Target, "d")); err != nil || to != "v2" {
		t.Errorf("%s, %v", to, err)
	}
}

// A file that somebody has open for writing waits for its writer.
func TestAnOpenFileDoesNotShip(t *testing.T) { // fact 2
	cfg := setup(t)
	write(t, cfg.Source, "v.mp4", "the beginning")
	f, err := os.OpenFile(filepath.Join(cfg.Source, "v.mp4"), os.O_WRONLY, 0)
	must(t, err)
	r := open(t, cfg)
	if out := ship(t, r, entry("v.mp4", "keep")); len(out.Again) != 1 || out.Shipped != 1 || read(cfg.Target, "v.mp4") != "missing" {
		t.Errorf("%+v", out)
	}
	must(t, f.Close())
	clean(t, ship(t, r, entry("v.mp4")))
}

// Nor does one of which that cannot be told for want of descriptors.
func TestAFileThatCannotBeAskedForNowDoesNotShip(t *testing.T) {
	cfg := setup(t)
	r := open(t, cfg)
	to := sorter{r: r, lane: fastsync.Live, out: &fastsync.Outcome{}, begun: time.Now()}
	info := stat(t, cfg.Source, "keep")
	withoutDescriptors(t, func() { to.placeFile(entry("keep")[0], info) })
	if len(to.out.Again) != 1 || to.to.len() != 0 {
		t.Errorf("%+v, want it to go round again", to.out)
	}
}

// One file for which there is no room keeps no other away, and is named.
func TestWhatDoesNotFitKeepsNothingElseAway(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "small/big", string(make([]byte, 300_000)))
	write(t, cfg.Source, "zzz/photo", "x")
	write(t, cfg.Target, "small/x", "x")
	small := filepath.Join(cfg.Target, "small")
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=100k", "none", small).CombinedOutput(); err != nil {
		t.Skipf("a disk of its own needs root: %s", out)
	}
	t.Cleanup(func() { must(t, exec.Command("umount", small).Run()) })
	r := open(t, cfg)
	out := ship(t, r, entry("small/big", "zzz/photo"))
	if len(out.Failed) != 1 || out.Failed[0].Path != "small/big" || read(cfg.Target, "zzz/photo") != "x" {
		t.Errorf("%+v", out)
	}
	if _, err := r.Sync(context.Background(), fastsync.Live, entry("small/big")); fastsync.ClassOf(err) != fastsync.Full {
		t.Errorf("alone: %v", err)
	}
}

// A path whose directory was a file when rsync made it at the target has not failed,
// unless nothing moved on the way to it: then something else is amiss there.
func TestWhatMovedMeanwhileHasNotFailed(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "d/e/f", "f")
	r := open(t, cfg)
	earlier, later := time.Now().Add(-time.Minute), time.Now().Add(time.Minute)
	for _, c := range []struct {
		path, reason string
		begun        time.Time
		want         bool
	}{
		{"d/e/f", `rsync: [generator] recv_generator: mkdir "/t/d/e/f" failed: Not a directory (20)`, earlier, true},
		{"d/e/f", `rsync: [receiver] mkstemp "/t/d/e/.f.x" failed: No such file or directory (2)`, earlier, true},
		{"d/e/f", `rsync: [generator] recv_generator: mkdir "/t/d/e/f" failed: Not a directory (20)`, later, false},
		{"d/e/f", `rsync: [receiver] mkstemp "/t/d/e/.f.x" failed: Permission denied (13)`, earlier, false},
		{"d/e/f", `rsync: [sender] send_files failed to open "/s/d/e/f": Permission denied (13)`, earlier, false},
		{"d/e/f", `rsync: [sender] link_stat "/s/d/e/f" failed: Not a directory (20)`, later, true},
		{"d/e/f", `rsync: [sender] send_files failed to open "/s/d/e/f": Not a directory (20)`, later, true},
		{"d/e/f", `file has vanished: "/s/d"`, earlier, true}, // and is back
		{"d/e/f", `rsync: [sender] change_dir "/s/d/e" failed: No such file or directory (2)`, earlier, true},
		{"d/e/f", `rsync: [sender] link_stat "/s/d/e/f" failed: No such file or directory (2)`, earlier, true},
		{"d/e/f", `rsync: [sender] link_stat "/s/d/e/f" failed: No such file or directory (2)`, later, false},
		{"d/e/f", `directory has vanished: "/s/d"`, earlier, true},
		{"d/e/f", `file has vanished: "/s/d"`, later, false},
		{"d/gone", `rsync: [sender] link_stat "/s/d/gone" failed: No such file or directory (2)`, later, true},
		{"d/e/f", "", earlier, true}, // rsync said nothing of it
		{"d/e/f", "", later, false},
	} {
		if got := r.overtaken(entries, c.path, verdict{reason: c.reason, own: c.reason != ""}, c.begun); got != c.want {
			t.Errorf("%s, %s: %v", c.path, c.reason, got)
		}
	}
	r.pull = true // where only messages tell
	for reason, want := range map[string]bool{
		`file has vanished: "/s/d"`: true,
		`rsync: [sender] send_files failed to open "/s/d/e/f": Not a directory (20)`:    true,
		`rsync: [sender] send_files failed to open "/s/d/e/f": Permission denied (13)`:  false,
		`rsync: [receiver] mkstemp "/t/d/e/.f.x" failed: No such file or directory (2)`: false,
	} {
		if got := r.overtaken(entries, "d/e/f", verdict{reason: reason, own: true}, later); got != want {
			t.Errorf("in a pull, %s: %v", reason, got)
		}
	}
}
