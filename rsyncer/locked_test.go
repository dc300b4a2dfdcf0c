package rsyncer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func needLock(t *testing.T, r *Rsyncer) {
	t.Helper()
	if why := r.Unlocked(); why != nil {
		t.Skip(why)
	}
}

// A file that is opened for writing after its directory was looked at does not
// slip into a list, a listing or a tree, and follows.
func TestNoFileThatIsOpenByThenSlipsIn(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, cfg Config, target string) {
		for k, it := range map[kind]job{entries: {path: "d/open"}, listings: {path: "d", dir: true}, trees: {path: "d", dir: true}} {
			for _, unlocked := range []bool{false, true} {
				must(t, os.RemoveAll(filepath.Join(target, "d")))
				write(t, cfg.Source, "d/open", "the beginning")
				write(t, cfg.Source, "d/closed", "whole")
				r := open(t, cfg)
				needLock(t, r)
				if unlocked {
					r.confinement.unlocked = errors.New("for the test")
				}
				f, err := os.OpenFile(filepath.Join(cfg.Source, "d/open"), os.O_WRONLY|os.O_APPEND, 0)
				must(t, err)
				it.changes = []fastsync.Change{{Path: it.path, Scope: fastsync.Tree}}
				jobs := []job{it, {path: "d/closed", alone: true, changes: entry("d/closed")}}
				s := session{lane: fastsync.Bulk, begun: time.Now().Add(time.Hour)} // nothing counts as touched
				must(t, r.shipPart(t.Context(), &s, &group{kind: k, jobs: jobs}, jobs))
				must(t, f.Close())
				if read(target, "d/closed") != "whole" || (read(target, "d/open") == "the beginning") != unlocked {
					t.Errorf("%v unlocked=%v: %q, %q", k, unlocked, read(target, "d/closed"), read(target, "d/open"))
				}
				out := s.outcome
				if again := len(out.Again) == 1 && (out.Again[0].Path == "d/open"); !unlocked && (!again || len(out.Failed) > 0) {
					t.Errorf("%v: %+v", k, out)
				}
			}
		}
	})
}

// Whoever rewrites a file in place, over and over, never shows torn at the target.
func TestWhatIsRewrittenInPlaceIsNeverTorn(t *testing.T) {
	for _, unlocked := range []bool{false, true} {
		cfg := setup(t)
		r := open(t, cfg)
		needLock(t, r)
		if unlocked {
			r.confinement.unlocked = errors.New("for the test")
		}
		half := strings.Repeat("x", 10_000)
		write(t, cfg.Source, "d/file", half+half)
		stop := make(chan struct{})
		var writing sync.WaitGroup
		writing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f, err := os.Create(filepath.Join(cfg.Source, "d/file"))
				must(t, err)
				_, _ = f.WriteString(half)
				time.Sleep(100 * time.Microsecond)
				_, _ = f.WriteString(half)
				f.Close()
				time.Sleep(time.Millisecond)
			}
		})
		torn, whole := 0, 0
		var seen string
		for end := time.Now().Add(10 * time.Second); whole < 20 && (torn == 0 || !unlocked) && time.Now().Before(end); {
			_ = os.Remove(filepath.Join(cfg.Target, "d/file"))
			_, err := r.Sync(t.Context(), fastsync.Bulk, scoped("d", fastsync.Tree))
			must(t, err)
			switch got := read(cfg.Target, "d/file"); got {
			case half + half:
				whole++
			case "missing":
			default:
				torn++
				seen += fmt.Sprintf("%d bytes ", len(got))
			}
		}
		close(stop)
		writing.Wait()
		if (torn > 0) != unlocked || !unlocked && whole < 3 {
			t.Errorf("unlocked=%v: torn %d times (%s), whole %d times", unlocked, torn, seen, whole)
		}
	}
}

// A writer does not wait until a large file is over a thin link.
func TestAWriterEndsTheRunThatReadsItsFile(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, cfg Config, target string) {
		write(t, cfg.Source, "video", strings.Repeat("x", 3_000_000))
		r := open(t, cfg)
		needLock(t, r)
		args := append(r.args(fastsync.Live, r.everyday()), "--bwlimit=20", "--whole-file")
		p, err := r.start(fastsync.Live, r.operands(args), nil)
		must(t, err)
		file := filepath.Join(cfg.Source, "video")
		var took time.Duration
		var writing sync.WaitGroup
		writing.Go(func() {
			for p.alive() && !leased(t, file) {
				time.Sleep(time.Millisecond)
			}
			begun := time.Now()
			must(t, os.WriteFile(file, []byte("new"), 0o644))
			took = time.Since(begun)
		})
		res := p.feed(t.Context(), []byte("/video\x00"), func(item) {}, r.cfg.Stall)
		writing.Wait()
		if !errors.Is(res.err, errWanted) || took > 5*time.Second || read(target, "video") != "missing" {
			t.Errorf("%+v; the writer waited for %s; %d bytes at the target", res, took, len(read(target, "video")))
		}
		clean(t, ship(t, r, entry("video")))
		if read(target, "video") != "new" {
			t.Error("what was written does not follow")
		}
	})
}

// The jobs of a run that was ended for a writer go round again, all of them.
func TestARunThatWasEndedForAWriterGoesRoundAgain(t *testing.T) {
	cfg := setup(t)
	cfg.Rsh = script(t, `shift; { dd bs=1 count=200000 2>/dev/null; exec sleep 60; } | "$@"`)
	cfg.Target = "host:" + cfg.Target
	write(t, cfg.Source, "video", strings.Repeat("x", 3_000_000))
	r := open(t, cfg)
	needLock(t, r)
	file := filepath.Join(cfg.Source, "video")
	var writing sync.WaitGroup
	writing.Go(func() {
		for end := time.Now().Add(10 * time.Second); !leased(t, file) && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		must(t, os.WriteFile(file, []byte("new"), 0o644))
	})
	out, err := r.Sync(t.Context(), fastsync.Live, entry("video", "keep"))
	if !out.Late {
		t.Error("the other end counts as ended")
	}
	writing.Wait()
	if err != nil || len(out.Again) != 2 || !out.Cut {
		t.Errorf("%+v, %v", out, err)
	}
}

// leased tells whether somebody has a lease on a file.
func leased(t *testing.T, file string) bool {
	info, err := os.Stat(file)
	must(t, err)
	locks, err := os.ReadFile("/proc/locks")
	must(t, err)
	inode := ":" + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10) + " "
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "LEASE") && strings.Contains(line, inode) {
			return true
		}
	}
	return false
}
