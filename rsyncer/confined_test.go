package rsyncer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/confine"
)

func needLandlock(t testing.TB) {
	t.Helper()
	if version, err := confine.Version(); version < 2 {
		t.Skip(version, err)
	}
}

// A list that leads through a link out of the root, as a directory that becomes a
// link after it was looked at does: fact 6. Unconfined, the canary is taken along.
func TestNoRaceLeadsOutOfTheRoot(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	targets(t, func(t *testing.T, cfg Config, target string) {
		for _, unconfined := range []bool{false, true} {
			cfg.Unconfined = unconfined
			outside := t.TempDir()
			write(t, outside, "secret", "canary")
			must(t, os.RemoveAll(filepath.Join(cfg.Source, "link")))
			must(t, os.Symlink(outside, filepath.Join(cfg.Source, "link")))
			r := open(t, cfg)
			if why := r.Unconfined(); (why != nil) != unconfined {
				t.Fatal(why)
			}
			res := r.run(context.Background(), call{fastsync.Live, r.operands(r.args(fastsync.Live, r.everyday())), []byte("/keep\x00/link/secret\x00"), func(item) {}, nil})
			if read(target, "keep") != "keep" || (read(target, "link/secret") == "canary") != unconfined {
				t.Errorf("unconfined %v: %q, %q, %+v", unconfined, read(target, "keep"), read(target, "link/secret"), res)
			}
		}
	})
}

// The same through one that was kept ready, and through a shell at the target.
func TestNoKeptRsyncLeadsOutOfTheRoot(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	r, target, _ := overSSH(t, func(*Config) {})
	outside := t.TempDir()
	write(t, outside, "secret", "canary")
	must(t, os.Symlink(outside, filepath.Join(r.cfg.Source, "link")))
	ready(t, r, 2)
	eventually(t, "a shell is free", r.channels.anyFree)
	for _, ch := range []*channel{nil, r.channels.take()} {
		p, err := r.prestart(r.everyday(), ch)
		must(t, err)
		res := p.feed(context.Background(), []byte("/keep\x00/link/secret\x00"), func(item) {}, r.cfg.Stall)
		if ch != nil {
			r.channels.giveBack(ch, res)
		}
		if read(target, "keep") != "keep" || read(target, "link/secret") == "canary" || res.code != exitPartial {
			t.Errorf("%q, %q, %+v", read(target, "keep"), read(target, "link/secret"), res)
		}
		must(t, os.Remove(filepath.Join(target, "keep")))
	}
}

// A pull may write below the target alone, whatever its sender says.
func TestNothingIsWrittenBesideTheTarget(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	cfg := setup(t)
	cfg.Target = filepath.Join(cfg.Target, "new", "folder")
	for _, unconfined := range []bool{false, true} {
		cfg.Unconfined = unconfined
		r := open(t, cfg)
		outside := t.TempDir()
		res := r.run(context.Background(), call{fastsync.Live, append(r.common(fastsync.Live), "--", r.source+"keep", outside+"/"), nil, func(item) {}, nil})
		if (read(outside, "keep") == "keep") != unconfined {
			t.Errorf("unconfined %v: %+v", unconfined, res)
		}
		clean(t, ship(t, r, entry("keep")))
	}
	if read(cfg.Target, "keep") != "keep" {
		t.Error("not at the target")
	}
}

// ssh reads what rsync must not, its key among it, and ends with its rsync.
func TestTheRemoteShellStaysOutside(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	cfg := setup(t)
	dir := t.TempDir()
	write(t, dir, "key", "key")
	cfg.Target, cfg.Grace = "nowhere:/x", 100*time.Millisecond
	cfg.Rsh = script(t, `cat `+dir+`/key > `+dir+`/seen; echo "it's $*" >> `+dir+`/seen; ps -o ppid=,pgid= $$ >> `+dir+`/seen; echo "no such luck" >&2; exit 7`)
	r := open(t, cfg)
	must(t, r.Unconfined())
	res := r.run(context.Background(), call{fastsync.Live, r.operands(r.args(fastsync.Live, r.everyday())), nil, func(item) {}, nil})
	if seen := read(dir, "seen"); !strings.HasPrefix(seen, "keyit's nowhere rsync --server ") {
		t.Errorf("it saw %q", seen)
	}
	if res.code != 12 && res.code != 7 || !slices.Contains(res.notes, "no such luck") {
		t.Errorf("%+v", res)
	}
}

func TestARemoteShellThatIsNotThere(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	cfg := setup(t)
	cfg.Target, cfg.Rsh = "nowhere:/x", script(t, "exit 0")
	r := open(t, cfg)
	must(t, r.Unconfined())
	must(t, os.Remove(cfg.Rsh)) // one that was never there is a fault at the start
	_, err := r.Sync(context.Background(), fastsync.Live, entry("keep"))
	if err == nil || !strings.Contains(err.Error(), cfg.Rsh) {
		t.Error(err)
	}
}

// A kept rsync may write to the folder that it started with: another one of the
// same name needs another rsync.
func TestAnotherFolderAtTheTarget(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 2)
	must(t, os.Rename(cfg.Target, cfg.Target+".old"))
	must(t, os.Mkdir(cfg.Target, 0o755))
	clean(t, ship(t, r, entry("keep")))
	if read(cfg.Target, "keep") != "keep" {
		t.Error("not at the target")
	}
}

// A compare that began while there was no target sees the one that a batch makes
// meanwhile.
func TestTheTargetIsMadeDuringACompare(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	cfg := setup(t)
	write(t, cfg.Source, "a", "x")
	cfg.Target = filepath.Join(cfg.Target, "new", "folder")
	r := open(t, cfg)
	must(t, r.Unconfined())
	p, err := r.start(fastsync.Bulk, r.operands(append(r.args(fastsync.Bulk, spec{trees, true, -1}), "-n")), nil)
	must(t, err)
	write(t, cfg.Target, "b", "x")
	if res := p.feed(context.Background(), []byte("/\x00"), func(item) {}, r.cfg.Stall); res.code != exitOK {
		t.Errorf("%+v", res)
	}
}

func TestWhyUnconfined(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.RsyncPath = script(t, `exec rsync "$@"`)
	if err := open(t, cfg).Unconfined(); err == nil {
		t.Error("a script is confined")
	}
	cfg = setup(t)
	cfg.RsyncPath = "/bin/false"
	if err := open(t, cfg).Unconfined(); err == nil || !strings.Contains(err.Error(), "/bin/false does not run") {
		t.Error(err)
	}
}

// A target's folder that cannot be made is a fault of the target.
func TestATargetThatCannotBeMade(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	cfg := setup(t)
	file := filepath.Join(t.TempDir(), "file")
	write(t, filepath.Dir(file), "file", "")
	cfg.Target = file + "/below"
	_, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep"))
	if fastsync.ClassOf(err) != fastsync.Full || !strings.Contains(err.Error(), syscall.ENOTDIR.Error()) {
		t.Error(err)
	}
}

// rsync itself takes such names for patterns that it never asked for, and ends
// the run over them: see trustSender.
func TestAPullTakesNamesThatLookLikePatterns(t *testing.T) {
	needLandlock(t)
	t.Parallel()
	remotes(t, true, func(t *testing.T, cfg Config, source, target string) {
		names := []string{`a\[b/c`, `back\slash/*[m]?`, `d/\#012`}
		for _, n := range names {
			write(t, source, n, n)
		}
		r := open(t, cfg)
		clean(t, ship(t, r, entry(append(names, "keep")...)))
		clean(t, ship(t, r, scoped(`a\[b`, fastsync.Tree)))
		same(t, compare(t, r, nil))
		for _, n := range names {
			if read(target, n) != n {
				t.Errorf("%q is not at the target", n)
			}
		}
		cfg.Unconfined = true
		write(t, source, names[0], "new")
		if _, err := open(t, cfg).Sync(t.Context(), fastsync.Live, entry(names[0])); err == nil || !strings.Contains(err.Error(), "rename the file") {
			t.Errorf("unconfined: %v", err)
		}
	})
}
