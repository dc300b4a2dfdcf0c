package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

const steadySize = 20_000

// overload is the p99 beyond which a rate is too high.
const overload = time.Second

func steady(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("%d files a second for %s", w.sizes.rate, w.sizes.steady),
		how:   "20 kB each, over ssh; from close(2) to whole at the target, in ms.",
		head:  []string{"tool", "files", "p50", "p95", "p99", "max", "× fastsync's p50"},
	}
	var all []latencies
	var faults []error
	for _, one := range w.contestants(ctx, &t, fsnotify, fanotify, loop, lsyncd0) {
		l, rate, err := w.steadily(ctx, one, w.sizes.rate, w.sizes.steady)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			t.note("%s could not be measured", one.name)
			faults = append(faults, err)
			continue
		}
		if rate < 0.95*float64(w.sizes.rate) {
			t.note("%s: only %s files a second could be written beside it", one.name, number(rate))
		}
		all = append(all, l)
	}
	t.latencies(all)
	for _, l := range all {
		if isFastsync(l.name) {
			t.reach(l, limits{40, 150})
		}
	}
	return []table{t}, errors.Join(faults...)
}

// steadyLimit doubles the rate until it is too much, and then halves the distance
// to the last one that was not, twice.
func steadyLimit(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: "The rate at which fastsync's p99 passes 1 s",
		how:   fmt.Sprintf("Files of 20 kB over ssh, each rate for %s from a fresh start; in ms.", w.sizes.step),
		head:  []string{"tool", "files/s asked", "files/s written", "p50", "p99", "max", "late"},
	}
	for _, one := range w.contestants(ctx, &t, fsnotify, fanotify) {
		held, tooMuch, closer := 0, 0, 2
		for rate := 100; rate <= w.sizes.top; {
			l, wrote, err := w.steadily(ctx, one, rate, w.sizes.step)
			if err != nil {
				return []table{t}, err
			}
			p99 := quantile(l.all, 0.99)
			t.add(one.name, strconv.Itoa(rate), number(wrote), number(quantile(l.all, 0.5)), number(p99), number(quantile(l.all, 1)), strconv.Itoa(l.late))
			if p99 > ms(overload) {
				tooMuch = rate
			} else {
				held = rate
			}
			if wrote < 0.9*float64(rate) {
				t.note("%s: the files could not be written faster", one.name)
				break
			}
			if rate = 2 * held; tooMuch > 0 {
				if rate = (held + tooMuch) / 2; closer == 0 {
					break
				}
				closer--
			}
		}
		t.note("%s held %d files a second with a p99 below 1 s, and did not %d", one.name, held, tooMuch)
	}
	return []table{t}, nil
}

// steadily gives a tool on fresh folders files at a rate. It returns the rate
// that was written as well.
func (w *world) steadily(ctx context.Context, t tool, rate int, during time.Duration) (latencies, float64, error) {
	p, err := w.folders()
	if err != nil {
		return latencies{}, 0, err
	}
	r := w.direct()
	c, err := w.start(t, r, p, "")
	if err != nil {
		return latencies{}, 0, err
	}
	if err := c.ready(ctx, r.rest); err != nil {
		return latencies{}, 0, c.finish(err)
	}
	l, wrote, err := c.load(ctx, rate, during)
	return l, wrote, c.finish(err)
}

// load writes on time whether or not files arrive, and then waits for all.
func (c *contest) load(ctx context.Context, rate int, during time.Duration) (l latencies, wrote float64, err error) {
	l.name = c.tool.name
	if err := c.look(steadySize, time.Millisecond); err != nil {
		return l, 0, err
	}
	defer c.unlook()
	still := watchStill()
	defer func() { l.stood(still()) }()
	data := make([]byte, steadySize)
	closed := make([]time.Time, 0, int(float64(rate)*during.Seconds()))
	name := func(i int) string { return fmt.Sprintf("load-%d", i) }
	begun := time.Now()
	for i := range cap(closed) {
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if left := time.Until(due); left > 0 {
			if err := lab.Pause(ctx, left); err != nil {
				return l, 0, err
			}
		}
		if time.Since(begun) > during+during/5 {
			break // the rate cannot be written: this is no longer a load of that time
		}
		at, err := c.write(name(i), data)
		if err != nil {
			return l, 0, err
		}
		closed = append(closed, at)
	}
	wrote = float64(len(closed)) / math.Max(time.Since(begun).Seconds(), 1e-9)
	if err := c.seen.wait(ctx, min(c.w.sizes.patience, 30*time.Second), c.Ended); err != nil && !errors.Is(err, lab.ErrLate) {
		return l, 0, err
	}
	gaveUp := time.Now()
	l.late = len(c.seen.forget())
	for i, at := range closed {
		arrived := c.seen.when(name(i))
		if arrived.IsZero() {
			arrived = gaveUp // at least
		}
		l.took(at, max(0, arrived.Sub(at)))
	}
	return l, wrote, nil
}
