package rsyncer

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// targets are one of each sort; the name is the subtest's.
func targets(t *testing.T, test func(t *testing.T, cfg Config, target string)) {
	for name, to := range map[string]func(testing.TB, *Config){
		"local":  func(testing.TB, *Config) {},
		"ssh":    func(t testing.TB, cfg *Config) { cfg.Rsh, cfg.Target = sshServer(t), "127.0.0.1:"+cfg.Target },
		"daemon": func(t testing.TB, cfg *Config) { cfg.Target = daemonServer(t, cfg.Target) + "mod" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := setup(t)
			cfg.Warm = 2
			target := cfg.Target
			to(t, &cfg)
			test(t, cfg, target)
		})
	}
}

func TestABatchIsServedByOneThatWasStartedBefore(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, cfg Config, target string) {
		gate := watched(t, &cfg)
		r := open(t, cfg)
		running(t, r)
		before := ready(t, r, 2)
		gate.shut(t)
		arrives(t, r, cfg.Source, target, "a")
		if left := waiting(r); len(left) != 1 || !slices.Contains(before, left[0]) {
			t.Errorf("%v are ready of %v", left, before)
		}
		arrives(t, r, cfg.Source, target, "b")
		gate.open()
		ready(t, r, 2) // though the pool met the shut gate
	})
}

func TestTheNextIsStartedWhileOneWorks(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 1
	r := open(t, cfg)
	running(t, r)
	first := ready(t, r, 1)
	signal(t, syscall.SIGSTOP, first...)
	var sync sync.WaitGroup
	sync.Go(func() { clean(t, ship(t, r, entry("keep"))) })
	eventually(t, "another is ready", func() bool { now := waiting(r); return len(now) == 1 && now[0] != first[0] })
	signal(t, syscall.SIGCONT, first...)
	sync.Wait()
}

func TestOverlappingBatchesUseTwo(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	gate := watched(t, &cfg)
	r := open(t, cfg)
	running(t, r)
	both := ready(t, r, 2)
	gate.shut(t)
	signal(t, syscall.SIGSTOP, both...)
	var batches sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		batches.Go(func() { arrives(t, r, cfg.Source, cfg.Target, name) })
	}
	eventually(t, "both are taken", func() bool { return inReserve(r) == 0 })
	signal(t, syscall.SIGCONT, both...)
	batches.Wait()
}

func TestKilledOnes(t *testing.T) { // fact 16
	t.Parallel()
	targets(t, func(t *testing.T, cfg Config, target string) {
		r := open(t, cfg)
		running(t, r)
		signal(t, syscall.SIGKILL, ready(t, r, 2)...) // the pool may or may not know yet
		arrives(t, r, cfg.Source, target, "killed while it waited")

		both := ready(t, r, 2)
		signal(t, syscall.SIGSTOP, both...)
		var batch sync.WaitGroup
		batch.Go(func() {
			write(t, cfg.Source, "killed once taken", "x")
			begun := time.Now()
			out := whole(t, r, fastsync.Live, "killed once taken")
			clean(t, out)
			if !out.Cut {
				t.Error("what it left at the target is not to be tidied")
			}
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
		})
		eventually(t, "one is taken", func() bool { return !slices.Equal(waiting(r), both) })
		signal(t, syscall.SIGKILL, both...)
		batch.Wait()
		if read(target, "killed once taken") != "x" {
			t.Error("it did not arrive")
		}
		ready(t, r, 2)
	})
}

func TestTheEndOfRunEndsThoseThatWait(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	r := open(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	pids := ready(t, r, 2)
	cancel()
	defer signal(t, syscall.SIGKILL, pids...)
	eventually(t, "it ends", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	if r.pool.take(t.Context(), r.everyday()) != nil {
		t.Error("there is still one to take")
	}
}

func TestTheOldAreReplaced(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	r := open(t, cfg)
	r.limits.age = 2 * time.Second
	running(t, r)
	bothAreReplaced(t, r)
}

func bothAreReplaced(t *testing.T, r *Rsyncer) {
	t.Helper()
	old := ready(t, r, 2)
	eventually(t, "both are replaced", func() bool {
		now := waiting(r)
		return len(now) == 2 && !slices.Contains(old, now[0]) && !slices.Contains(old, now[1])
	})
}

// A daemon's folder may be another by then, which nobody here could see.
func TestThoseOfADaemonAreReplacedSooner(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Target = daemonServer(t, cfg.Target) + "mod"
	cfg.Warm = 2
	r := open(t, cfg)
	r.limits.module = 2 * time.Second
	running(t, r)
	bothAreReplaced(t, r)
}

func TestNothingIsKeptWhenThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	target := cfg.Target
	cfg.Rsh, cfg.Target, cfg.Warm = sshServer(t), "127.0.0.1:"+target, 2
	r := open(t, cfg)
	r.limits.idle = 6 * time.Second // longer than a login takes on busy cores
	running(t, r)
	ready(t, r, 2)
	none := func() bool { return inReserve(r) == 0 && r.shares[fastsync.Live].in(idle) }
	within(t, time.Minute, "none is kept, nor the connection", none)
	arrives(t, r, cfg.Source, target, "after a night")
	eventually(t, "the next is kept ready", func() bool { return inReserve(r) == 2 && masterOf(r, fastsync.Live) != 0 })
	within(t, time.Minute, "none is kept again", none)
}

func TestWarm0StartsNothing(t *testing.T) {
	cfg := setup(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	target := cfg.Target
	cfg.Rsh, cfg.Target = sshServer(t), "127.0.0.1:"+target
	gate := watched(t, &cfg)
	r := open(t, cfg)
	running(t, r)
	arrives(t, r, cfg.Source, target, "a")
	clean(t, shipBulk(t, r, entry("a")))
	if dirs, _ := filepath.Glob(tmp + "/fastsync-ssh-*"); len(dirs) > 0 || gate.started() != 2 {
		t.Errorf("%d rsyncs, %v", gate.started(), dirs)
	}
}

// The brake's count goes down with each path; none is kept for each number.
func TestDeletionsDoNotFillThePool(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm, cfg.Delete = 1, true
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 1)
	for i := range 4 {
		var gone []string
		for j := range i + 1 {
			gone = append(gone, fmt.Sprintf("gone%d", j))
			write(t, cfg.Target, gone[j], "x")
			write(t, cfg.Target, "d/"+gone[j], "x")
		}
		write(t, cfg.Source, "d/keep", "x")
		clean(t, ship(t, r, append(entry(gone...), scoped("d", fastsync.Listing)...)))
	}
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for s := range r.pool.policy.used {
		if s.limit != r.cfg.MaxDelete {
			t.Errorf("%+v is kept ready", s)
		}
	}
}

func TestPullsAreServedToo(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	source := cfg.Source
	cfg.Rsh, cfg.Source, cfg.Warm = sshServer(t), "127.0.0.1:"+source, 1
	gate := watched(t, &cfg)
	r := open(t, cfg)
	running(t, r)
	eventually(t, "it has a connection to wait in", func() bool { return masterOf(r, fastsync.Live) != 0 && len(waiting(r)) == 1 })
	gate.shut(t)
	arrives(t, r, source, cfg.Target, "a")
}

func TestOneIsStartedToSeeWhetherItIsAnyUse(t *testing.T) {
	cfg := setup(t)
	cfg.Warm = 2
	r := open(t, cfg)
	for failures, want := range []int{2, 2, 1, 1} {
		r.pool.begin(time.Now())
		r.pool.policy.failures = failures
		if _, missing := r.pool.tend(time.Now()); len(missing) != want {
			t.Errorf("%d are to be started after %d failures", len(missing), failures)
		}
	}
}
