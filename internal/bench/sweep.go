package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// sweep compares a sweep with what rsync takes for the same, and looks at what
// it does to single files.
func sweep(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Sweep of %d unchanged entries", w.sizes.entries),
		how:   "Over ssh, as fastsync sweep tells it, beside a bare rsync -a of the same with no change; in s.",
		head:  []string{"tool", "took", "× rsync -a", "× rsync -a --delete"},
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
	if _, err := w.unchanged(ctx, s, &table{}); err != nil { // sets times of directories, and warms
		return nil, err
	}
	for i, one := range tools {
		if err := w.sweep(ctx, one, &s, i, &t, &live); err != nil {
			return []table{t, live}, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return []table{t, live}, nil
}

// unchanged runs the bare rsyncs, without and with --delete, and adds their rows.
func (w *world) unchanged(ctx context.Context, s synced, t *table) (bare [2]float64, err error) {
	r := w.direct()
	for i, more := range []string{"", " --delete"} {
		d, err := w.rsync(ctx, r, append(strings.Fields("-a"+more), s.source+"/", r.to(s.target)+"/")...)
		if err != nil {
			return bare, err
		}
		bare[i] = d.Seconds()
	}
	t.compared("rsync -a", bare[0], bare)
	t.compared("rsync -a --delete", bare[1], bare)
	return bare, nil
}

func (t *table) compared(name string, took float64, bare [2]float64) {
	t.add(name, number(took), number(took/bare[0]), number(took/bare[1]))
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
	if err := lab.Pause(ctx, 3*time.Second); err != nil {
		return err
	}
	// Both with fastsync there and idle, one right after the other.
	bare, err := w.unchanged(ctx, *s, t)
	if err != nil {
		return err
	}
	took, err := c.sweepNow(ctx)
	if err != nil {
		return err
	}
	t.compared(one.name, took.Seconds(), bare)
	t.goal(one.name, 1.1, took.Seconds()/bare[0], "× rsync -a")
	return c.besideSweeps(ctx, one, live)
}

// besideSweeps feeds single files at rest and while sweeps run.
func (c *contest) besideSweeps(ctx context.Context, one tool, live *table) error {
	n := c.w.sizes.files
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
