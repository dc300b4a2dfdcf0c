package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// perDir is how many files each directory of the swept tree has.
const perDir = 50

// synced is a large tree and a target that is in sync with it.
type synced struct {
	forest
	places
	at string
}

// sync makes both sides of a tree of some entries.
func (w *world) sync(ctx context.Context) (synced, error) {
	p, err := w.folders()
	s := synced{forest{w.sizes.entries / (perDir + 1), perDir}, p, filepath.Dir(p.source)}
	for _, root := range []string{p.source, p.target} {
		if err == nil {
			err = s.plant(ctx, root)
		}
		if err == nil {
			err = os.Mkdir(filepath.Join(root, "live"), 0o755)
		}
	}
	return s, err
}

func (s synced) remove() { _ = os.RemoveAll(s.at) }

// begin starts a tool on it, with an empty folder of its own.
func (s *synced) begin(w *world, one tool, own string) (*contest, error) {
	s.own = filepath.Join(s.at, own)
	if err := os.MkdirAll(s.own, 0o755); err != nil {
		return nil, err
	}
	return w.start(one, w.direct(), s.places, "")
}

// swept waits for the first sweep, which must find nothing.
func (c *contest) swept(ctx context.Context) error {
	if _, err := c.await(ctx, "caught up", 1); err != nil {
		return err
	}
	l, err := c.await(ctx, "sweep ended", 1)
	if err == nil && l.Drift != 0 {
		err = fmt.Errorf("the first sweep of two equal trees found %d paths that differ", l.Drift)
	}
	return err
}

// catchUp starts fastsync again after it was away.
func catchUp(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Catch-up: %d entries, %d changed while fastsync was away", w.sizes.entries, away),
		how:   "How long the walk took by fastsync's own log, and from the start of the process to all whole at the target over ssh; beside a bare WalkDir + Lstat and a bare rsync -a that finds nothing; in s.",
		head:  []string{"tool", "walk", "× bare walk", "start to all whole"},
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
	r := w.direct()
	var unchanged time.Duration
	for range 2 { // the first sets times of directories, and warms
		if unchanged, err = w.rsync(ctx, r, "-a", s.source+"/", r.to(s.target)+"/"); err != nil {
			return nil, err
		}
	}
	walk, err := w.bareWalks(ctx, s.source)
	if err != nil {
		return nil, err
	}
	t.add("bare walk", number(walk), "1", "-")
	t.add("rsync -a, no change", "-", number(unchanged.Seconds()/walk), seconds(unchanged))
	for i, one := range tools {
		l, all, err := w.comeBack(ctx, one, &s, i)
		if err != nil {
			return []table{t}, fmt.Errorf("%s: %w", one.name, err)
		}
		took := l.took()
		ratio := took.Seconds() / walk
		t.add(one.name, seconds(took), number(ratio), seconds(all))
		t.goal(one.name, 2, ratio, "× bare walk")
		t.note("%s published %d events for them", one.name, l.Found)
	}
	return []table{t}, nil
}

// bareWalks is the median of three.
func (w *world) bareWalks(ctx context.Context, root string) (float64, error) {
	var took []float64
	for range 3 {
		b, err := w.helper(ctx, "walk", root)
		if err != nil {
			return 0, err
		}
		took = append(took, b.own.Seconds())
	}
	return median(took), nil
}

// away is how many files change while fastsync is away.
const away = 20

func (w *world) comeBack(ctx context.Context, one tool, s *synced, round int) (walk line, all time.Duration, err error) {
	own := fmt.Sprintf("own%d", round)
	c, err := s.begin(w, one, own)
	if err != nil {
		return line{}, 0, err
	}
	err = c.swept(ctx)
	if err == nil {
		err = lab.Pause(ctx, 10*time.Second) // until a checkpoint is written that is later than the trees
	}
	c.end()
	if err != nil {
		return line{}, 0, err
	}
	size := 100 + round
	var names []string
	for i := range away {
		names = append(names, s.file(i*s.dirs/away, round))
		if err := os.WriteFile(filepath.Join(s.source, names[i]), make([]byte, size), 0o644); err != nil {
			return line{}, 0, err
		}
	}
	begun := time.Now()
	if c, err = s.begin(w, one, own); err != nil {
		return line{}, 0, err
	}
	defer c.end()
	l, err := c.await(ctx, "caught up", 1)
	if err != nil {
		return line{}, 0, err
	}
	// 20 files, after the walk: a poll disturbs nothing that is measured.
	err = lab.Until(ctx, w.sizes.patience, 5*time.Millisecond, func() bool { return haveSize(s.target, names, int64(size)) })
	return l, time.Since(begun), err
}

func haveSize(root string, names []string, size int64) bool {
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Size() != size {
			return false
		}
	}
	return true
}
