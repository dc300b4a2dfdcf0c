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

	"github.com/fastsync/fastsync/internal/lab"
)

// crowd is a burst: files in new directories, written by one writer as fast as it
// can, or evenly over a time.
type crowd struct {
	files, dirs, size int
	over              time.Duration
}

// baseline is what a burst costs without any tool watching. Busy is the time
// that it kept the cores busy, in sum: on all of them it cannot be done sooner.
type baseline struct{ write, rsync, busy time.Duration }

func (b baseline) took() time.Duration { return b.write + b.rsync }

// floor is the least ratio that work as cheap as the baseline's can reach.
func (b baseline) floor() float64 {
	return b.busy.Seconds() / float64(runtime.NumCPU()) / b.took().Seconds()
}

func burst(ctx context.Context, w *world) ([]table, error) {
	return w.bursts(ctx, w.sized(), fsnotify, fanotify, loop, lsyncd0, lsyncd1, lsyncdDefault)
}

// burstSlow is the same where what is written has to be fetched or computed.
func burstSlow(ctx context.Context, w *world) ([]table, error) {
	b := w.sized()
	b.over = w.sizes.slow
	return w.bursts(ctx, b, fsnotify, fanotify, loop)
}

// sized is the burst of the sizes asked for.
func (w *world) sized() crowd { return crowd{files: w.sizes.burst, dirs: w.sizes.dirs, size: 10_000} }

func (w *world) bursts(ctx context.Context, b crowd, names ...string) ([]table, error) {
	t := table{
		title: fmt.Sprintf("%d new files of 10 kB in %d new directories", b.files, b.dirs),
		how:   "Over ssh, from the first open to all whole at the target. Write and rsync: the same with no tool watching and one bare rsync -a, just before each. Floor is the processor time of these two on both sides, over all cores, × (write + rsync): what a tool without any costs of its own that keeps all cores busy would take where the write itself takes no longer. Memory is PSS and CPU is of all of a tool's processes on this side. Still: for how much of the burst the machine itself stood still.",
		head:  []string{"tool", "write s", "rsync s", "burst s", "× (write + rsync)", "floor ×", "peak MB", "CPU s", "still s"},
	}
	if b.over > 0 {
		t.title += fmt.Sprintf(", written over %s", b.over)
	}
	var faults []error
	for _, one := range w.contestants(ctx, &t, names...) {
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
	used, most, still := lab.CPUByKind(c.Leader), sample(c.Leader, 200*time.Millisecond), watchStill()
	took, late, err := c.crowd(ctx, b)
	stood, seen := still()
	memory, cpu := most(), total(lab.CPUByKind(c.Leader))-total(used)
	if err != nil {
		return 0, c.finish(err)
	}
	ratio := took.Seconds() / base.took().Seconds()
	if late > 0 {
		t.note("%s: %d files did not come in time", one.name, late)
		ratio = math.Inf(1)
	}
	t.add(one.name, seconds(base.write), seconds(base.rsync), seconds(took), number(ratio), number(base.floor()), megabytes(memory.all.PSS), seconds(cpu), stillness(stood, seen))
	return ratio, c.finish(nil)
}

func stillness(stood []span, seen bool) string {
	if !seen {
		return "-"
	}
	return seconds(sum(stood))
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
	if err := c.seen.wait(ctx, c.w.sizes.patience, c.Ended); errors.Is(err, lab.ErrLate) {
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
	data, begun := make([]byte, b.size), time.Now()
	for d := range b.dirs {
		if err := os.MkdirAll(filepath.Join(root, b.dir(d)), 0o755); err != nil {
			return err
		}
		for f := range b.files / b.dirs {
			n := d*(b.files/b.dirs) + f
			time.Sleep(time.Until(begun.Add(b.over * time.Duration(n) / time.Duration(b.files))))
			if err := os.WriteFile(filepath.Join(root, b.name(d, f)), data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
