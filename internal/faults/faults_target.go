package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lab"
)

// mount puts a file system of its own on a folder until the end.
func (r *rig) mount(folder, options string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, options); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	r.cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	return nil
}

// smallTarget is a target with a file system of its own.
func smallTarget(options string) func(r *rig) {
	return func(r *rig) {
		sure(r)
		r.before = func(r *rig) error { return r.mount(r.target, options) }
	}
}

// othersArrive sees that a fault of one file does not hold up another.
func (r *rig) othersArrive(ctx context.Context) error {
	p, err := r.mark()
	if err != nil {
		return err
	}
	took, err := r.arrives(ctx, p, 10*time.Second)
	r.longest("another file there after", took)
	return err
}

func chattr(flag, file string) error {
	if out, err := exec.Command("chattr", flag, file).CombinedOutput(); err != nil {
		return fmt.Errorf("chattr %s: %w: %s", flag, err, out)
	}
	return nil
}

// inTheWay puts something else at the target where a file or directory of the
// root's is, and has that shipped again.
func inTheWay(make func(r *rig, at string) error) func(ctx context.Context, r *rig) error {
	return func(ctx context.Context, r *rig) error {
		p := fmt.Sprintf("keep-way-%d", r.next())
		for _, kind := range []string{"file", "dir"} {
			in := filepath.Join(r.root, p+kind)
			if kind == "dir" {
				if err := os.Mkdir(in, 0o755); err != nil {
					return err
				}
				in = filepath.Join(in, "secret") // as the canary's is called
			}
			if err := os.WriteFile(in, record(r.rng, 100), 0o644); err != nil {
				return err
			}
			rel, _ := filepath.Rel(r.root, in)
			if _, err := r.arrives(ctx, rel, 30*time.Second); err != nil { // as long as C1 gives it
				return err
			}
			at := filepath.Join(r.target, p+kind)
			err := errors.Join(os.RemoveAll(at), make(r, at))
			for try := 0; err != nil && try < 10; try++ { // a sweep may have shipped it again in between
				err = errors.Join(os.RemoveAll(at), make(r, at))
			}
			if err != nil {
				return err
			}
			if err := os.WriteFile(in, record(r.rng, 200), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
}

var targetFaults = []fault{
	{
		name: "target full", promised: "shown; what fits still ships; heals", fast: true,
		lacks: needsRoot, set: smallTarget("size=40m"), shows: "keep-large|[Nn]o space|full", settles: time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			if err := os.WriteFile(filepath.Join(r.root, "keep-large"), record(r.rng, 60<<20), 0o644); err != nil {
				return err
			}
			return r.othersArrive(ctx)
		},
		heal: func(_ context.Context, r *rig) error { return os.Remove(filepath.Join(r.root, "keep-large")) },
	},
	{
		name: "target without inodes", promised: "shown; heals",
		lacks: needsRoot, set: smallTarget("nr_inodes=1500"), shows: "[Nn]o space|full", settles: 2 * time.Minute,
		harm: func(_ context.Context, r *rig) error {
			many := filepath.Join(r.root, "keep-many")
			if err := os.Mkdir(many, 0o755); err != nil {
				return err
			}
			for i := range 2000 {
				if err := os.WriteFile(filepath.Join(many, fmt.Sprint(i)), record(r.rng, 8), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
		heal: func(_ context.Context, r *rig) error { return os.RemoveAll(filepath.Join(r.root, "keep-many")) },
	},
	{
		name: "target read-only", promised: "shown; heals",
		lacks: needsRoot, set: smallTarget("size=100m"), shows: "[Rr]ead-only", settles: 2 * time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			var err error
			late := lab.Until(ctx, 10*time.Second, time.Millisecond, func() bool { // not while a file is open for writing
				err = unix.Mount("", r.target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
				return !errors.Is(err, unix.EBUSY)
			})
			return errors.Join(late, err)
		},
		heal: func(_ context.Context, r *rig) error { return unix.Mount("", r.target, "", unix.MS_REMOUNT, "") },
	},
	{
		name: "one file at the target is immutable", promised: "listed by name; all others ship; heals",
		lacks: func() string {
			if _, err := exec.LookPath("chattr"); err != nil {
				return "chattr is not there"
			}
			return needsRoot()
		},
		set: sure, shows: "keep-immutable", settles: 2 * time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			const p = "keep-immutable"
			if err := os.WriteFile(filepath.Join(r.root, p), record(r.rng, 100), 0o644); err != nil {
				return err
			}
			if _, err := r.arrives(ctx, p, 10*time.Second); err != nil {
				return err
			}
			if err := chattr("+i", filepath.Join(r.target, p)); err != nil {
				return err
			}
			r.cleanup(func() { _ = chattr("-i", filepath.Join(r.target, p)) })
			if err := os.WriteFile(filepath.Join(r.root, p), record(r.rng, 200), 0o644); err != nil {
				return err
			}
			return r.othersArrive(ctx)
		},
		heal: func(_ context.Context, r *rig) error { return chattr("-i", filepath.Join(r.target, "keep-immutable")) },
	},
	{
		name: "a directory where a file should be", promised: "makes way, as deletes are on",
		set: sure, settles: time.Minute,
		harm: inTheWay(func(r *rig, at string) error {
			if err := os.Mkdir(at, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(at, "secret"), record(r.rng, 20), 0o644)
		}),
	},
	{
		name: "a file where a directory should be", promised: "makes way",
		set: sure, settles: time.Minute,
		harm: inTheWay(func(r *rig, at string) error { return os.WriteFile(at, record(r.rng, 20), 0o644) }),
	},
	{
		name: "a link to elsewhere in the way", promised: "makes way; nothing is written elsewhere", fast: true,
		set: sure, settles: time.Minute,
		harm: inTheWay(func(r *rig, at string) error { return os.Symlink(filepath.Join(r.canary.dir, "sub"), at) }),
	},
	{
		name: "the target's folder gone", promised: "made again, and all of it shipped after a sweep", killed: true,
		set: sure, gap: true, asked: true, settles: time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			gone := r.target + ".gone"
			if err := os.Rename(r.target, gone); err != nil {
				return err
			}
			_ = os.RemoveAll(gone) // an rsync that is at work there may keep some of it
			if err := lab.Pause(ctx, time.Second); err != nil {
				return err
			}
			release := r.quiet() // what changes while a sweep repairs is left, and the operator told so
			defer release()
			out, err := r.fastsync(ctx, append([]string{"sweep", "--name", name}, r.directly()...)...)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
	},
}
