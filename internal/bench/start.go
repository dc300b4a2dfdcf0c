package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// start looks at how soon an agent watches a large tree, and at its memory then.
func start(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Start to watching, and memory: %d directories", w.sizes.watched),
		how:   "fastsync agent with a Redis of its own, from its start to the moment when it says that it watches; beside a bare walk that adds each directory to fsnotify. Memory of the one process, 3 s after the catch-up.",
		head:  []string{"tool", "watching s", "× bare", "caught up s", "RSS MB", "PSS MB"},
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
	f := forest{dirs: w.sizes.watched}
	if err := f.plant(ctx, p.source); err != nil {
		return nil, err
	}
	b, fault := w.bareWatches(ctx, p.source)
	bareTook := b.all.Seconds()
	if fault != nil { // fastsync is measured all the same
		bareTook = math.NaN()
		t.note("the bare watch could not be measured")
	} else {
		t.add("bare walk + fsnotify", seconds(b.all), "1", "-", megabytes(b.RSS), megabytes(b.PSS))
	}
	for _, one := range tools {
		a, err := w.agent(ctx, one, p, &t)
		if err != nil {
			return []table{t}, err
		}
		t.add(one.name, seconds(a.watching), number(a.watching.Seconds()/bareTook), seconds(a.caughtUp), megabytes(a.RSS), megabytes(a.PSS))
		if one.name == fanotify {
			t.goal(one.name+", watching", 50, ms(a.watching), "ms")
			t.goal(one.name+", RSS", 20, float64(a.RSS)/1e6, "MB")
			continue
		}
		t.goal(one.name+", watching", 1.3, a.watching.Seconds()/bareTook, "× bare")
		t.goal(one.name+", RSS", 35, float64(a.RSS)/1e6, "MB")
	}
	return []table{t}, fault
}

// bareWatches is the one of some that took the median time.
func (w *world) bareWatches(ctx context.Context, root string) (bare, error) {
	var all []bare
	for range w.sizes.rounds {
		b, err := w.helper(ctx, "watch", root)
		if err != nil {
			return b, err
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b bare) int { return cmp.Compare(a.all, b.all) })
	return all[(len(all)-1)/2], nil
}

// agent is what one was seen to do.
type agent struct {
	watching, caughtUp time.Duration
	lab.Memory
}

func (w *world) agent(ctx context.Context, one tool, p places, t *table) (agent, error) {
	url, stop, err := w.redis(ctx)
	if err != nil {
		return agent{}, err
	}
	defer stop()
	watch := one.name[len("fastsync "):]
	one.command = func(j job) *exec.Cmd {
		return exec.Command("bin/fastsync", "agent", "--source", j.source, "--watch", watch, "--redis", url, "--log-format", "json")
	}
	begun := time.Now()
	c, err := w.startJob(one, p, job{source: p.source, own: p.own})
	if err != nil {
		return agent{}, err
	}
	defer c.end()
	var a agent
	for message, since := range map[string]*time.Duration{"watching": &a.watching, "caught up": &a.caughtUp} {
		l, err := c.await(ctx, message, 1)
		if err != nil {
			return agent{}, fmt.Errorf("%s: %w; it said: %s", one.name, err, c.said())
		}
		*since = max(time.Millisecond, l.At.Sub(begun)) // the log has milliseconds
	}
	if err := lab.Pause(ctx, 3*time.Second); err != nil {
		return a, err
	}
	a.Memory, _ = lab.MemoryOf(c.Leader)
	return a, c.noteUnwatched(ctx, t, "--redis", url)
}
