package rsyncer

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// It ships nothing from the directory that it was started in, if that is not the root's any more.
func TestOneOfAnotherRootShipsNothing(t *testing.T) { // fact 16a
	t.Parallel()
	cfg := setup(t)
	cfg.Warm, cfg.Delete = 2, true
	write(t, cfg.Source, "more", "more")
	r := open(t, cfg)
	stop := running(t, r)
	ready(t, r, 2)
	clean(t, ship(t, r, entry("keep", "more")))
	must(t, os.Rename(cfg.Source, cfg.Source+".old"))
	write(t, cfg.Source, "keep", "another")
	if _, err := r.Sync(context.Background(), fastsync.Live, entry("keep")); err == nil || read(cfg.Target, "keep") != "keep" {
		t.Errorf("%q arrived: %v", read(cfg.Target, "keep"), err)
	}
	stop() // none waits, but those whose directory is another
	another := cfg
	another.Warm = 1
	other := open(t, another)
	proc, err := other.prestart(other.everyday(), nil)
	must(t, err)
	eventually(t, "it is in the other root", func() bool {
		at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", proc.pid))
		return err == nil && os.SameFile(at, other.root)
	})
	must(t, os.RemoveAll(cfg.Source))
	must(t, os.Rename(cfg.Source+".old", cfg.Source))
	r.pool.begin(time.Now())
	r.pool.mu.Lock()
	r.pool.idle[r.everyday()] = []*process{proc}
	r.pool.mu.Unlock()
	if r.pool.take(t.Context(), r.everyday()) != nil {
		t.Error("one of another root is taken")
	}
	r.pool.tend(time.Now())
	if _, missing := r.pool.tend(time.Now().Add(r.limits.first)); len(missing) != 2 {
		t.Errorf("%d are to be started", len(missing))
	}
	r.pool.waiting.Wait()
	if proc.alive() {
		t.Error("it still waits")
	}
}

func TestNoneIsStartedWhileTheRootIsAway(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	gate := watched(t, &cfg)
	r := open(t, cfg)
	r.limits.first = 100 * time.Millisecond
	running(t, r)
	pids := ready(t, r, 2)
	must(t, os.Rename(cfg.Source, cfg.Source+".old"))
	must(t, os.Mkdir(cfg.Source, 0o755))
	signal(t, syscall.SIGKILL, pids...)
	eventually(t, "it has tried again", func() bool {
		r.pool.mu.Lock()
		defer r.pool.mu.Unlock()
		return r.pool.policy.failures > 3
	})
	if n := gate.started(); n != 2 {
		t.Errorf("%d were started", n)
	}
	must(t, os.Remove(cfg.Source))
	must(t, os.Rename(cfg.Source+".old", cfg.Source))
	arrives(t, r, cfg.Source, cfg.Target, "back")
	ready(t, r, 2)
}

// Where no directory can be told, none is used, and few are started for nothing.
func TestOnesThatAreNeverInTheRoot(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	log := t.TempDir()
	cfg.RsyncPath = script(t, `echo >> `+log+`/started; cd /; rsync "$@"`)
	r := open(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r.Run(ctx)
	if n := len(read(log, "started")); n < 1 || n > 6 {
		t.Errorf("%d were started in 2 s", n)
	}
}
