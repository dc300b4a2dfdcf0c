package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// hugeDir changes some files of one very large directory.
func hugeDir(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("%d changed files in one directory of %d", w.sizes.changed, w.sizes.huge),
		how:   "1 kB each, over ssh: from close(2) of the last to all whole at the target, beside one bare rsync -a --files-from of as many others in it, from its start to all whole, the median of as many rounds just before; in s.",
		head:  []string{"tool", "round", "write", "fastsync", "bare rsync", "×"},
	}
	tools := w.contestants(ctx, &t, fsnotify, fanotify)
	if len(tools) == 0 {
		return []table{t}, nil
	}
	p, err := w.folders()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(filepath.Dir(p.source))
	for _, root := range []string{p.source, p.target} {
		if err := pile(ctx, filepath.Join(root, hugeName), w.sizes.huge); err != nil {
			return nil, err
		}
	}
	changed := 0 // so far: each round takes others
	for i, one := range tools {
		p.own = filepath.Join(filepath.Dir(p.source), fmt.Sprintf("own%d", i))
		if err := os.Mkdir(p.own, 0o755); err != nil {
			return nil, err
		}
		if err := w.hugeDir(ctx, one, p, &changed, &t); err != nil {
			return []table{t}, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return []table{t}, nil
}

const hugeName, hugeSize = "huge", 1000

func (w *world) hugeDir(ctx context.Context, one tool, p places, changed *int, t *table) error {
	r := w.direct()
	bare, err := w.bareChanges(ctx, r, p, changed)
	if err != nil {
		return err
	}
	c, err := w.start(one, r, p, "")
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.swept(ctx); err != nil {
		return err
	}
	var ratios []float64
	for round := range w.sizes.rounds {
		if err := lab.Pause(ctx, r.rest+time.Second); err != nil {
			return err
		}
		wrote, took, err := c.change(ctx, w.some(changed))
		if err != nil {
			return err
		}
		ratios = append(ratios, took.Seconds()/bare)
		t.add(one.name, fmt.Sprint(round+1), seconds(wrote), seconds(took), number(bare), number(ratios[round]))
	}
	t.goal(one.name+", median", 1.2, median(ratios), "×")
	return nil
}

// some are names that no round has had, from all over the directory.
func (w *world) some(from *int) []string {
	names := make([]string, w.sizes.changed)
	for i := range names {
		// A step that has no factor in common with the size visits each file once.
		n := *from * 7919 % w.sizes.huge
		*from++
		names[i] = filepath.Join(hugeName, pileName(n))
	}
	return names
}

// change writes the files below the root that the tool watches, and tells how
// long that took, and how long after it all were there.
func (c *contest) change(ctx context.Context, names []string) (wrote, took time.Duration, err error) {
	if err := c.look(hugeSize, time.Millisecond); err != nil {
		return 0, 0, err
	}
	defer c.unlook()
	c.seen.expect(names...)
	begun := time.Now()
	if err := rewrite(c.source, names); err != nil {
		return 0, 0, err
	}
	closed := time.Now()
	if err := c.seen.wait(ctx, c.w.sizes.patience, c.Ended); err != nil {
		return 0, 0, fmt.Errorf("%d of %d files: %w", len(c.seen.forget()), len(names), err)
	}
	return closed.Sub(begun), max(0, c.seen.last(names).Sub(closed)), nil
}

// bareChanges copies as many changes in the same directory by one rsync, some
// times over, while no tool runs that would ship them too.
func (w *world) bareChanges(ctx context.Context, r route, p places, changed *int) (float64, error) {
	list := p.own + "/list"
	var took []float64
	for range w.sizes.rounds {
		names := w.some(changed)
		if err := rewrite(p.source, names); err != nil {
			return 0, err
		}
		if err := os.WriteFile(list, []byte(strings.Join(names, "\n")), 0o644); err != nil {
			return 0, err
		}
		d, err := w.bareChange(ctx, r, p, list, names)
		if err != nil {
			return 0, err
		}
		took = append(took, d.Seconds())
	}
	return median(took), nil
}

func (w *world) bareChange(ctx context.Context, r route, p places, list string, names []string) (time.Duration, error) {
	seen, err := newArrivals(p.target, hugeSize, time.Millisecond)
	if err != nil {
		return 0, err
	}
	defer seen.close()
	seen.expect(names...)
	begun := time.Now()
	if _, err := w.rsync(ctx, r, "-a", "--files-from="+list, p.source+"/", r.to(p.target)+"/"); err != nil {
		return 0, err
	}
	if err := seen.wait(ctx, w.sizes.patience, nil); err != nil {
		return 0, err
	}
	return seen.last(names).Sub(begun), nil
}

func rewrite(root string, names []string) error {
	data := make([]byte, hugeSize)
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(root, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func pileName(i int) string { return fmt.Sprintf("picture-%07d.jpg", i) }

// pile makes one directory of n empty files.
func pile(ctx context.Context, dir string, n int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	workers := runtime.NumCPU()
	faults := make([]error, workers)
	var running sync.WaitGroup
	for k := range workers {
		running.Go(func() {
			for i := k; i < n && faults[k] == nil; i += workers {
				faults[k] = errors.Join(ctx.Err(), sow(filepath.Join(dir, pileName(i))))
			}
		})
	}
	running.Wait()
	return errors.Join(faults...)
}
