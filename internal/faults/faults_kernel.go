package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lab"
)

const (
	// overflowing is more than an inotify queue holds by default, 16,384.
	overflowing = 20_000
	forestDirs  = 1000
	forestFiles = 99
	// whole is how long it may take until they are at the target.
	whole = 10 * time.Second
)

// forest is a tree of 100,000 entries.
func forest(r *rig) error {
	for d := range forestDirs {
		dir := filepath.Join(r.root, "keep-forest", fmt.Sprint(d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for f := range forestFiles {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(f)), record(r.rng, 10), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// overflowFile is the i-th file that overflows the queue.
func (r *rig) overflowFile(dir string, i int) string {
	return filepath.Join(dir, "keep-forest", fmt.Sprint(i%forestDirs), fmt.Sprintf("new-%d", i))
}

func overflow(ctx context.Context, r *rig) error {
	from := len(r.said())
	r.stopped(r.agent, true)
	for i := range overflowing {
		if err := os.WriteFile(r.overflowFile(r.root, i), record(r.rng, 100), 0o644); err != nil {
			return err
		}
	}
	r.stopped(r.agent, false)
	begun := time.Now()
	for i := range overflowing {
		at := r.overflowFile(r.target, i)
		if err := lab.Until(ctx, time.Minute, 10*time.Millisecond, func() bool { _, err := os.Lstat(at); return err == nil }); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	took := time.Since(begun)
	r.longest("whole after SIGCONT", took)
	if r.lines(from, "the kernel lost events") == 0 {
		return fmt.Errorf("no event was lost: %d files are too few here", overflowing)
	}
	if took > whole {
		return fmt.Errorf("%d files were whole at the target %s after SIGCONT, at most %s are promised", overflowing, took, whole)
	}
	return nil
}

// pinch leaves fastsync few descriptors or none, now more and now less.
func pinch(ctx context.Context, r *rig) error {
	from := len(r.said())
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if err := errors.Join(r.limitFiles(r.bounds().files-6+r.rng.IntN(12)), lab.Pause(ctx, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	n := bytes.Count(r.said()[from:], []byte("too many open files"))
	if r.count("told of too few", n); n == 0 {
		return errors.New("fastsync had all the descriptors that it wanted")
	}
	return nil
}

// limitFiles sets the soft limit of fastsync's descriptors.
func (r *rig) limitFiles(n int) error {
	for _, p := range r.processes() {
		if p.Kind != filepath.Base(r.binary) {
			continue
		}
		limit := unix.Rlimit{Cur: uint64(n), Max: 4096}
		if err := unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			return fmt.Errorf("limit the descriptors of fastsync: %w", err)
		}
	}
	return nil
}

var kernelFaults = []fault{
	{
		name: "inotify's queue overflows", promised: "20,000 files whole 10 s after SIGCONT, in a tree of 100,000", alone: true,
		set: func(r *rig) { sure(r); r.watch, r.still, r.before = "fsnotify", true, forest }, harm: overflow, settles: time.Minute,
		heal: func(_ context.Context, r *rig) error { // else each time finds a larger tree
			for i := range overflowing {
				if err := os.Remove(r.overflowFile(r.root, i)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "too few inotify watches", promised: "shown; what is not watched is walked on a timer",
		shows: "not watched|unwatched",
		set: func(r *rig) {
			sure(r)
			r.watch, r.still = "fsnotify", true
			r.command = []string{"unshare", "-U", "-r", "sh", "-c", `echo 50 >/proc/sys/user/max_inotify_watches && exec "$@"`, "sh"}
			r.before = func(r *rig) error {
				for i := range 200 {
					if err := os.MkdirAll(filepath.Join(r.root, fmt.Sprintf("keep-%d", i)), 0o755); err != nil {
						return err
					}
				}
				return nil
			}
		},
		harm: func(_ context.Context, r *rig) error {
			for i := range 200 {
				if err := os.WriteFile(filepath.Join(r.root, fmt.Sprintf("keep-%d", i), "f"), record(r.rng, 100), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
		settles: 2 * time.Minute,
	},
	{
		name: "few file descriptors", promised: "slower, and that is all",
		set:  func(r *rig) { sure(r); r.watch = "fsnotify" }, // which opens each directory
		harm: pinch, settles: time.Minute,
		heal: func(_ context.Context, r *rig) error { return r.limitFiles(1024) },
	},
	{
		name: "the state directory's disk is full", promised: "shown; heals",
		lacks: needsRoot, shows: "MISCONF|[Nn]o space", gap: true, settles: time.Minute,
		set: func(r *rig) {
			r.managed = true
			r.before = func(r *rig) error { return r.mount(r.state, "size=16m") }
		},
		harm: func(_ context.Context, r *rig) error {
			err := os.WriteFile(filepath.Join(r.state, "junk"), make([]byte, 16<<20), 0o644)
			if !errors.Is(err, unix.ENOSPC) {
				return fmt.Errorf("the disk is not full: %w", err)
			}
			return nil
		},
		heal: func(_ context.Context, r *rig) error { return os.Remove(filepath.Join(r.state, "junk")) },
	},
}
