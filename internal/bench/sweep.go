package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// sweep compares a sweep with what rsync takes for the same, and looks at what
// it does to single files.
func sweep(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Sweep of %d unchanged entries", w.sizes.entries),
		how:   "Over ssh, as fastsync sweep tells it, beside a bare rsync -a of the same with no change; in s.",
		head:  []string{"tool", "took", "× rsync -a"},
	}
	live := table{
		title: "Single files while a sweep runs",
		how:   "50 kB each, 150 to 600 ms apart, sweeps one after the other; from close(2) to whole at the target, in ms.",
		head:  besideHead,
	}
	tools := w.contestants(ctx, &t, fsnotify, fanotify)
	if len(tools) == 0 {
		return []table{t}, nil
	}
	s, err := w.sync(ctx)
	if err != nil {
		return nil, err
	}
	defer s.remove()
	if err := w.unchanged(ctx, s, 1, &table{}, nil); err != nil { // sets times of directories, and warms
		return nil, err
	}
	for i, one := range tools {
		if err := w.sweep(ctx, one, &s, i, &t, &live); err != nil {
			return []table{t, live}, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return []table{t, live}, nil
}

// unchanged runs the bare rsyncs and adds their rows.
func (w *world) unchanged(ctx context.Context, s synced, measure float64, t *table, took *time.Duration) error {
	r := w.direct()
	for _, more := range []string{"", " --delete"} {
		args := append(strings.Fields("-a"+more), s.source+"/", r.to(s.target)+"/")
		d, err := w.rsync(ctx, r, args...)
		if err != nil {
			return err
		}
		if took != nil && more == "" {
			*took = d
			measure = d.Seconds()
		}
		t.add("rsync -a"+more, seconds(d), number(d.Seconds()/measure))
	}
	return nil
}

func (w *world) sweep(ctx context.Context, one tool, s *synced, round int, t, live *table) error {
	c, err := s.begin(w, one, fmt.Sprintf("own%d", round))
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.swept(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	// Both with fastsync there and idle, one right after the other.
	var bare time.Duration
	if err := w.unchanged(ctx, *s, 1, t, &bare); err != nil {
		return err
	}
	took, err := c.sweepNow(ctx)
	if err != nil {
		return err
	}
	ratio := took.Seconds() / bare.Seconds()
	t.add(one.name, seconds(took), number(ratio))
	t.goal(one.name, 1.1, ratio, "× rsync -a")
	return c.besideSweeps(ctx, one, live)
}

// besideSweeps feeds single files at rest and while sweeps run.
func (c *contest) besideSweeps(ctx context.Context, one tool, live *table) error {
	n := max(4, c.w.sizes.files/2)
	defer c.within("live")()
	rest, err := c.feed(ctx, n, "rest")
	if err != nil {
		return err
	}
	var sweeping sync.WaitGroup
	on, stop := context.WithCancel(ctx)
	var fault error
	sweeps := 0
	sweeping.Go(func() {
		for on.Err() == nil {
			sweeps++
			if _, err := c.sweepNow(on); err != nil && on.Err() == nil {
				fault = err
				return
			}
		}
	})
	busy, err := c.feed(ctx, n, "busy")
	stop()
	sweeping.Wait()
	if err = errors.Join(err, fault); err != nil {
		return err
	}
	live.note("%s: %d sweeps were begun", one.name, sweeps)
	return live.beside(one, rest, busy, "beside sweeps")
}

// sweepNow orders a sweep and returns how long it took, as fastsync tells.
func (c *contest) sweepNow(ctx context.Context) (time.Duration, error) {
	out, err := exec.CommandContext(ctx, "bin/fastsync", "sweep", "--state-dir", c.own).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("fastsync sweep: %w: %s", err, out)
	}
	_, text, _ := strings.Cut(string(out), "took ")
	text, _, _ = strings.Cut(text, "\n")
	took, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("fastsync sweep did not say how long it took: %q", out)
	}
	return took, nil
}
