package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// crowd is a burst: files in new directories, written as fast as one writer can.
type crowd struct{ files, dirs, size int }

// baseline is what a burst costs without any tool watching. Busy is the time
// that it kept the cores busy, in sum: on all of them it cannot be done sooner.
type baseline struct{ write, rsync, busy time.Duration }

func (b baseline) took() time.Duration { return b.write + b.rsync }

// floor is the least ratio that work as cheap as the baseline's can reach.
func (b baseline) floor() float64 {
	return b.busy.Seconds() / float64(runtime.NumCPU()) / b.took().Seconds()
}

func burst(ctx context.Context, w *world) ([]table, error) {
	b := crowd{w.sizes.burst, w.sizes.dirs, 10_000}
	t := table{
		title: fmt.Sprintf("%d new files of 10 kB in %d new directories", b.files, b.dirs),
		how:   "Over ssh, from the first open to all whole at the target. Write and rsync: the same with no tool watching and one bare rsync -a, just before each. Floor is the processor time of these two on both sides, over all cores, × (write + rsync): what a tool without any costs of its own that keeps all cores busy would take where the write itself takes no longer. Memory is PSS and CPU is of all of a tool's processes on this side.",
		head:  []string{"tool", "write s", "rsync s", "burst s", "× (write + rsync)", "floor ×", "peak MB", "CPU s"},
	}
	var faults []error
	for _, one := range w.contestants(ctx, &t, fsnotify, fanotify, loop, lsyncd0, lsyncd1, lsyncdDefault) {
		rounds := 1
		if isFastsync(one.name) {
			rounds = w.sizes.rounds
		}
		var ratios []float64
		for range rounds {
			ratio, err := w.burst(ctx, one, b, &t)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				t.note("%s could not be measured", one.name)
				faults = append(faults, err)
				break
			}
			ratios = append(ratios, ratio)
		}
		if isFastsync(one.name) {
			t.goal(one.name+", median", 0.75, median(ratios), "×")
		}
	}
	return []table{t}, errors.Join(faults...)
}

// burstOnDisk is the same where writing takes its time.
func burstOnDisk(ctx context.Context, w *world) ([]table, error) {
	o := w.options
	o.dir = os.TempDir()
	d, err := newWorld(ctx, o)
	if err != nil {
		return nil, err
	}
	defer d.close()
	d.keep = true
	tables, err := burst(ctx, d)
	for i := range tables {
		tables[i].title += ", on the disk of temporary files"
	}
	return tables, err
}

// burst measures one tool and adds its row.
func (w *world) burst(ctx context.Context, one tool, b crowd, t *table) (float64, error) {
	base, err := w.baseline(ctx, b)
	if err != nil {
		return 0, err
	}
	p, err := w.folders()
	if err != nil {
		return 0, err
	}
	r := w.direct()
	c, err := w.start(one, r, p, "")
	if err != nil {
		return 0, err
	}
	if err := c.ready(ctx, r.rest); err != nil {
		return 0, c.finish(err)
	}
	used, most := cpuByKind(c.leader), sample(c.leader, 200*time.Millisecond)
	took, late, err := c.crowd(ctx, b)
	memory, cpu := most(), total(cpuByKind(c.leader))-total(used)
	if err != nil {
		return 0, c.finish(err)
	}
	ratio := took.Seconds() / base.took().Seconds()
	if late > 0 {
		t.note("%s: %d files did not come in time", one.name, late)
		ratio = math.Inf(1)
	}
	t.add(one.name, seconds(base.write), seconds(base.rsync), seconds(took), number(ratio), number(base.floor()), megabytes(memory.all.pss), seconds(cpu))
	return ratio, c.finish(nil)
}

// crowd writes a burst and tells how long it took until all was there.
func (c *contest) crowd(ctx context.Context, b crowd) (took time.Duration, late int, err error) {
	if err := c.look(int64(b.size), 5*time.Millisecond); err != nil {
		return 0, 0, err
	}
	defer c.unlook()
	names := b.names()
	c.seen.expect(names...)
	begun := time.Now()
	if err := b.write(c.source); err != nil {
		return 0, 0, err
	}
	if err := c.seen.wait(ctx, c.w.sizes.patience, c.ended); errors.Is(err, errLate) {
		return time.Since(begun), len(c.seen.forget()), nil
	} else if err != nil {
		return 0, 0, err
	}
	return c.seen.last(names).Sub(begun), 0, nil
}

// baseline writes the burst and copies it with one bare rsync, looked at as a
// tool is: that takes its part of the cores.
func (w *world) baseline(ctx context.Context, b crowd) (baseline, error) {
	p, err := w.folders()
	if err != nil {
		return baseline{}, err
	}
	defer func() { _ = w.remove(filepath.Dir(p.source)) }()
	busy, err := machineBusy()
	if err != nil {
		return baseline{}, err
	}
	begun := time.Now()
	if err := b.write(p.source); err != nil {
		return baseline{}, err
	}
	base := baseline{write: time.Since(begun)}
	seen, err := newArrivals(p.target, int64(b.size), 5*time.Millisecond)
	if err != nil {
		return base, err
	}
	defer seen.close()
	seen.expect(b.names()...)
	most := sample(os.Getpid(), 200*time.Millisecond)
	defer most()
	r := w.direct()
	if base.rsync, err = w.rsync(ctx, r, "-a", p.source+"/", r.to(p.target)+"/"); err != nil {
		return base, err
	}
	if err := seen.wait(ctx, w.sizes.patience, nil); err != nil {
		return base, err
	}
	base.busy, err = machineBusy()
	base.busy -= busy
	return base, err
}

func (b crowd) names() []string {
	names := make([]string, 0, b.files)
	for d := range b.dirs {
		for f := range b.files / b.dirs {
			names = append(names, b.name(d, f))
		}
	}
	return names
}

func (b crowd) name(d, f int) string { return b.dir(d) + "/f" + strconv.Itoa(f) }

func (b crowd) dir(d int) string { return fmt.Sprintf("burst-%04d", d) }

func (b crowd) write(root string) error {
	data := make([]byte, b.size)
	for d := range b.dirs {
		if err := os.Mkdir(filepath.Join(root, b.dir(d)), 0o755); err != nil {
			return err
		}
		for f := range b.files / b.dirs {
			if err := os.WriteFile(filepath.Join(root, b.name(d, f)), data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// memoryBurst looks at fastsync's memory while a large burst goes through it.
func memoryBurst(ctx context.Context, w *world) ([]table, error) {
	b := crowd{w.sizes.crowd, w.sizes.crowdDirs, 1000}
	t := table{
		title: fmt.Sprintf("Peak memory during a burst of %d files of 1 kB in %d directories", b.files, b.dirs),
		how:   "All of fastsync's processes on this side, over ssh, looked at every 100 ms, in MB. PSS gives each process its share of a page that several have. The rows of kinds are of the moment with the highest sum of PSS; a sum of RSS may be of another.",
		head:  []string{"tool", "processes", "RSS", "PSS"},
	}
	for _, one := range w.contestants(ctx, &t, fsnotify, fanotify) {
		p, err := w.folders()
		if err != nil {
			return nil, err
		}
		r := w.direct()
		c, err := w.start(one, r, p, "")
		if err != nil {
			return nil, err
		}
		if err := c.ready(ctx, r.rest); err != nil {
			return []table{t}, c.finish(err)
		}
		most := sample(c.leader, 100*time.Millisecond)
		took, late, err := c.crowd(ctx, b)
		found := most()
		if err := c.finish(err); err != nil {
			return []table{t}, err
		}
		t.memory(one.name, found)
		t.note("%s: all there after %s s, %d files late", one.name, seconds(took), late)
		t.goal(one.name+", all processes, PSS", 80, float64(found.all.pss)/1e6, "MB")
	}
	return []table{t}, nil
}

func (t *table) memory(name string, p peak) {
	for _, kind := range sortedKeys(p.kinds) {
		t.add(name, kind, megabytes(p.kinds[kind].rss), megabytes(p.kinds[kind].pss))
	}
	t.add(name, "without redis-server", megabytes(p.noRedis.rss), megabytes(p.noRedis.pss))
	t.add(name, "all", megabytes(p.all.rss), megabytes(p.all.pss))
}
