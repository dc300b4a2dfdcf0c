package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

var besideHead = []string{"tool", "files", "p50", "p95", "p99", "max", "× at rest"}

// videos is how many are shipped one after the other, and mostBeside how many
// single files are written meanwhile at most, which is more than there is time for.
const videos, mostBeside = 4, 1000

// lanesFirst looks at single files while a large tree is copied to a new target.
func lanesFirst(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Single files during a first copy of %d entries", w.sizes.entries),
		how:   "50 kB each, 150 to 600 ms apart, from when the first directory is there until the last file of each is, and at rest once the sweep that began it has ended; the other files are empty. Over ssh, from close(2) to whole at the target, in ms.",
		head:  besideHead,
	}
	for _, one := range w.contestants(ctx, &t, fsnotify, fanotify) {
		if err := w.lanesFirst(ctx, one, &t); err != nil {
			return []table{t}, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return []table{t}, nil
}

func (w *world) lanesFirst(ctx context.Context, one tool, t *table) error {
	p, err := w.folders()
	if err != nil {
		return err
	}
	f := forest{w.sizes.entries / (perDir + 1), perDir}
	if err := f.plant(ctx, p.source); err != nil {
		return err
	}
	for _, root := range []string{p.source, p.target} {
		if err := os.Mkdir(filepath.Join(root, "live"), 0o755); err != nil {
			return err
		}
	}
	r := w.direct()
	bare, err := w.rsync(ctx, r, "-a", p.source+"/", r.to(filepath.Join(p.own, "bare"))+"/")
	if err != nil {
		return err
	}
	c, err := w.start(one, r, p, "")
	if err != nil {
		return err
	}
	return c.finish(c.firstCopy(ctx, t, f, bare))
}

// firstCopy feeds single files while everything is copied.
func (c *contest) firstCopy(ctx context.Context, t *table, f forest, bare time.Duration) error {
	begun, target := time.Now(), c.target
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(target, name))
		return err == nil
	}
	var done time.Time
	copying := func() bool {
		for last := f.dirs - 1; last >= 0; last -= last%branch + 1 { // of each on the first level
			if !there(f.file(last, f.files-1)) {
				return true
			}
		}
		done = time.Now()
		return false
	}
	err := lab.Until(ctx, c.w.sizes.patience, 10*time.Millisecond, func() bool { return there(filepath.Dir(f.dir(0))) || c.over() })
	if err != nil {
		return fmt.Errorf("wait for the copy to begin: %w", err)
	}
	defer c.within("live")()
	busy, err := c.feedWhile(ctx, mostBeside, "busy", copying)
	if err != nil {
		return err
	}
	if err := lab.Until(ctx, c.w.sizes.patience, 100*time.Millisecond, func() bool { return !copying() || c.over() }); err != nil {
		return fmt.Errorf("wait for the end of the copy: %w", err)
	}
	took := done.Sub(begun)
	if _, err := c.await(ctx, "sweep ended", 1); err != nil { // which looks once more at all that was copied
		return err
	}
	if err := lab.Pause(ctx, c.w.direct().rest); err != nil {
		return err
	}
	rest, err := c.feed(ctx, max(4, c.w.sizes.files/2), "rest")
	if err != nil {
		return err
	}
	t.note("%s: the first copy took %s s, %s × a bare rsync -a", c.tool.name, seconds(took), number(took.Seconds()/bare.Seconds()))
	return t.beside(c.tool, rest, busy, "during the copy")
}

// lanesVideo looks at single files while large ones are shipped.
func lanesVideo(ctx context.Context, w *world) ([]table, error) {
	t := table{
		title: fmt.Sprintf("Single files while videos of %d MB are shipped", w.sizes.video>>20),
		how:   fmt.Sprintf("50 kB each, 150 to 600 ms apart, at rest and while one of %d videos is on its way, which are moved into the root one after the other. Over ssh with no limit on the bandwidth, from close(2) to whole at the target, in ms.", videos),
		head:  besideHead,
	}
	for _, one := range w.contestants(ctx, &t, fsnotify, fanotify) {
		p, err := w.folders()
		if err != nil {
			return nil, err
		}
		c, err := w.start(one, w.direct(), p, "")
		if err != nil {
			return nil, err
		}
		if err := c.finish(c.besideVideos(ctx, &t)); err != nil {
			return []table{t}, err
		}
	}
	return []table{t}, nil
}

func (c *contest) besideVideos(ctx context.Context, t *table) error {
	for _, root := range []string{c.source, c.target} {
		if err := os.Mkdir(filepath.Join(root, "live"), 0o755); err != nil {
			return err
		}
	}
	film := filepath.Join(c.own, "film")
	if err := shoot(film, c.w.sizes.video); err != nil {
		return err
	}
	if err := c.ready(ctx, c.w.direct().rest); err != nil {
		return err
	}
	source, target := c.source, c.target
	defer c.within("live")()
	rest, err := c.feed(ctx, max(4, c.w.sizes.files/2), "rest")
	if err != nil {
		return err
	}
	var shipping sync.WaitGroup
	var onItsWay, done atomic.Bool
	var fault error
	var took time.Duration
	shipping.Go(func() {
		defer done.Store(true)
		for i := range videos {
			name := fmt.Sprintf("video-%d", i)
			begun := time.Now()
			if fault = os.Rename(film, filepath.Join(source, name)); fault != nil {
				return
			}
			onItsWay.Store(true)
			fault = lab.Until(ctx, c.w.sizes.patience, 10*time.Millisecond, func() bool {
				info, err := os.Lstat(filepath.Join(target, name))
				return err == nil && info.Size() == c.w.sizes.video
			})
			onItsWay.Store(false)
			took += time.Since(begun)
			film = filepath.Join(source, name)
			if fault = errors.Join(fault, os.Remove(filepath.Join(target, name))); fault != nil {
				return
			}
		}
	})
	busy := latencies{name: c.tool.name}
	for n := 0; err == nil && !done.Load(); n++ {
		var some latencies
		some, err = c.feedWhile(ctx, mostBeside, fmt.Sprintf("busy%d", n), onItsWay.Load)
		busy.and(some)
		if len(some.all) == 0 {
			err = errors.Join(err, lab.Pause(ctx, 10*time.Millisecond))
		}
	}
	shipping.Wait()
	if err = errors.Join(err, fault); err != nil {
		return err
	}
	t.note("%s: a video took %s s", c.tool.name, seconds(took/videos))
	return t.beside(c.tool, rest, busy, "beside videos")
}

// shoot writes a film of noise, which neither ssh nor rsync can make smaller.
func shoot(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	noise := rand.NewChaCha8([32]byte{})
	block := make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(block)) {
		_, _ = noise.Read(block) // never fails
		if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
			return err
		}
	}
	return f.Close()
}

// within lets what follows write to a folder of the root, until it is called.
func (c *contest) within(folder string) (back func()) {
	source, target := c.source, c.target
	c.source, c.target = filepath.Join(source, folder), filepath.Join(target, folder)
	return func() { c.source, c.target = source, target }
}

// beside adds the rows of a tool's single files at rest and beside other work.
func (t *table) beside(one tool, rest, busy latencies, how string) error {
	if len(busy.all) == 0 {
		return fmt.Errorf("no single file was written %s", how)
	}
	p99 := quantile(rest.all, 0.99)
	rest.name, busy.name = one.name+" at rest", one.name+" "+how
	for _, l := range []latencies{rest, busy} {
		t.latency(l, quantile(l.all, 0.99)/p99)
	}
	t.goal(one.name+" p99", 3, quantile(busy.all, 0.99)/p99, "× at rest")
	if len(busy.slowed) > 0 {
		ran := latencies{name: busy.name + ", while the machine ran", all: busy.clear}
		t.latency(ran, quantile(ran.all, 0.99)/p99)
		t.goal(one.name+" p99, while the machine ran", 3, quantile(ran.all, 0.99)/p99, "× at rest")
	}
	return nil
}
