package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// idle looks at what fastsync takes while nothing happens.
func idle(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Idle: %d directories watched, three ssh targets warm", w.sizes.watched),
		how:   fmt.Sprintf("CPU over %s of all of fastsync's processes on this side, in %% of one core.", w.sizes.idle),
		head:  []string{"tool", "processes", "CPU ms", "%"},
	}
	tools := w.contestants(ctx, &t, fsnotify, fanotify)
	if len(tools) == 0 {
		return []table{t}, nil
	}
	at, err := w.fresh()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(at)
	f := forest{dirs: w.sizes.watched}
	source := filepath.Join(at, "source")
	targets := []string{filepath.Join(at, "t1"), filepath.Join(at, "t2"), filepath.Join(at, "t3")}
	for _, root := range append([]string{source}, targets...) {
		if err := f.plant(ctx, root); err != nil {
			return nil, err
		}
	}
	for i, one := range tools {
		own := filepath.Join(at, fmt.Sprintf("own%d", i))
		if err := os.Mkdir(own, 0o755); err != nil {
			return nil, err
		}
		if err := w.idle(ctx, one, places{source, targets[0], own}, targets, &t); err != nil {
			return []table{t}, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return []table{t}, nil
}

func (w *world) idle(ctx context.Context, one tool, p places, targets []string, t *table) error {
	r := w.direct()
	j := job{source: p.source, rsh: r.rsh, own: p.own}
	for _, target := range targets {
		j.targets = append(j.targets, r.to(target))
	}
	c, err := w.startJob(one, p, j)
	if err != nil {
		return err
	}
	defer c.end()
	if _, err := c.await(ctx, "caught up", 1); err != nil {
		return err
	}
	if _, err := c.await(ctx, "sweep ended", len(targets)); err != nil {
		return err
	}
	if err := c.noteUnwatched(ctx, t, "--state-dir", c.own); err != nil {
		return err
	}
	if err := lab.Pause(ctx, 5*time.Second); err != nil { // times of directories, the last logins
		return err
	}
	before, begun := lab.CPUByKind(c.Leader), time.Now()
	if err := lab.Pause(ctx, w.sizes.idle); err != nil {
		return err
	}
	took := time.Since(begun)
	after := lab.CPUByKind(c.Leader)
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	for _, kind := range sortedKeys(after) {
		used := after[kind] - before[kind]
		t.add(one.name, kind, number(ms(used)), number(share(used)))
	}
	all := total(after) - total(before)
	t.add(one.name, "all", number(ms(all)), number(share(all)))
	t.goal(one.name, 0.1, share(all), "%")
	return nil
}
