package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

func overSSH(r *rig) { sure(r); r.way = "ssh" }

// killing kills a process of some kind now and then, for some seconds.
func killing(kind string) func(ctx context.Context, r *rig) error {
	return func(ctx context.Context, r *rig) error {
		killed := 0
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
			var some []lab.Process
			for _, p := range lab.Processes(r.sub.Leader) {
				if p.Kind == kind {
					some = append(some, p)
				}
			}
			if len(some) > 0 && syscall.Kill(some[r.rng.IntN(len(some))].PID, syscall.SIGKILL) == nil {
				killed++
			}
			if err := lab.Pause(ctx, r.random(20*time.Millisecond, 400*time.Millisecond)); err != nil {
				return err
			}
		}
		if killed == 0 {
			return fmt.Errorf("there was no %s to kill", kind)
		}
		r.count(kind+" killed", killed)
		return nil
	}
}

func hole(on bool) func(ctx context.Context, r *rig) error {
	return func(_ context.Context, r *rig) error { r.link.Hole(on); return nil }
}

// noticed measures how long it takes until the target is said to fail.
const failing = `"health": "failing"`

var linkFaults = []fault{
	{
		name: "each rsync killed", promised: "its batch goes again; nothing lost, nothing torn", fast: true, killed: true,
		set: overSSH, harm: killing("rsync"),
	},
	{name: "each ssh killed", promised: "connected again; nothing lost", killed: true, set: overSSH, harm: killing("ssh")},
	{
		name: "sessions at the target killed", promised: "logged in again; nothing lost", killed: true, set: overSSH,
		harm: func(ctx context.Context, r *rig) error {
			for range 5 {
				for _, p := range r.sshd.Sessions() {
					_ = syscall.Kill(p.PID, syscall.SIGKILL)
				}
				if err := lab.Pause(ctx, r.random(100*time.Millisecond, time.Second)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "link cut while idle", promised: "noticed within 30 s of the next file; goes on", killed: true,
		set: func(r *rig) { overSSH(r); r.still = true }, shows: failing,
		harm: func(ctx context.Context, r *rig) error {
			r.link.Hole(true)
			if err := lab.Pause(ctx, 2*time.Second); err != nil {
				return err
			}
			_, err := r.mark()
			return err
		},
		heal: hole(false), settles: time.Minute,
	},
	{
		name: "link cut while pushing", promised: "noticed within 30 s; goes on", killed: true,
		set: overSSH, shows: failing, settles: time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			if err := os.WriteFile(filepath.Join(r.root, "keep-large"), record(r.rng, 50<<20), 0o644); err != nil {
				return err
			}
			if err := lab.Pause(ctx, r.random(10*time.Millisecond, 300*time.Millisecond)); err != nil {
				return err
			}
			r.link.Hole(true)
			return nil
		},
		heal: hole(false),
	},
	{
		name: "link cut while pulling", promised: "noticed within 30 s; goes on", killed: true,
		set: func(r *rig) { overSSH(r); r.way, r.apart = "pull", true }, shows: failing, settles: time.Minute,
		harm: hole(true), heal: hole(false),
	},
	{
		name: "connections that wait are stale", promised: "the next file goes over a new one", killed: true,
		set: func(r *rig) { overSSH(r); r.still = true },
		harm: func(ctx context.Context, r *rig) error {
			r.link.Reset()
			p, err := r.mark()
			if err != nil {
				return err
			}
			took, err := r.arrives(ctx, p, 10*time.Second)
			r.longest("there after", took)
			return err
		},
	},
	{
		name: "sshd gone", promised: "shown; goes on when it is back", killed: true,
		set: overSSH, shows: failing, settles: time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			r.sshd.Kill()
			return lab.Pause(ctx, r.long)
		},
		heal: func(ctx context.Context, r *rig) error { return r.sshd.Start(ctx) },
	},
	{
		name: "another host key", promised: "refused and shown; goes on when the operator accepts it", killed: true,
		set: func(r *rig) { overSSH(r); r.strict = true }, shows: "[Hh]ost key", settles: 2 * time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			r.sshd.Kill()
			if err := r.sshd.MakeKey(ctx, "host"); err != nil {
				return err
			}
			return r.sshd.Launch()
		},
		heal: func(_ context.Context, r *rig) error { return os.Remove(r.sshd.Known()) },
	},
	{
		name: "the daemon's module gone", promised: "shown; goes on when it is back", killed: true,
		set: func(r *rig) { sure(r); r.way = "daemon" }, shows: "no such module", settles: 2 * time.Minute,
		harm: func(ctx context.Context, r *rig) error {
			if err := r.daemon.Serve("another", r.target); err != nil {
				return err
			}
			r.link.Reset() // those that wait have the module already
			return nil
		},
		heal: func(_ context.Context, r *rig) error { return r.daemon.Serve("mod", r.target) },
	},
}
