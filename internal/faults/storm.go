package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// stormy are faults that may follow each other on one rig.
var stormy = []string{
	"redis killed, with AOF", "redis connections reset", "FLUSHALL", "events deleted", "fastsync run killed -9", "each rsync killed", "a parent becomes a file, and back",
	"directories renamed while they are walked", "files vanish", "rewritten with equal size in one second", "garbage messages", "messages that lead out of the root",
	"names of every kind", "times of 1970 and 2106", "a link to elsewhere in the way", "a directory where a file should be", "redis 500 ms away",
}

// storms has faults at random in one rig per seed, for so long each.
func (s *suite) storms(ctx context.Context, long time.Duration, seeds int) error {
	var all, broken []uint64
	for n := range seeds {
		all = append(all, s.seed+uint64(n))
	}
	sideBySide(ctx, all, s.beside, func(seed uint64) report { return s.storm(ctx, long, seed) }, func(rep report) {
		s.print(rep)
		if rep.err != nil {
			broken = append(broken, rep.seed)
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d of %d seeds broke a promise: %d", len(broken), seeds, broken)
	}
	return nil
}

// storm is a fault of its own: all of the others, as chance wants it.
func (s *suite) storm(ctx context.Context, long time.Duration, seed uint64) report {
	var list []fault
	for _, f := range faults() {
		if slices.Contains(stormy, f.name) && s.only.MatchString(f.name) {
			list = append(list, f)
		}
	}
	one := fault{
		name: fmt.Sprintf("storm of %s", short(long)), promised: "all of it", gap: true, killed: true, settles: 2 * minute,
		set: func(r *rig) {
			sure(r)
			r.way = []string{"", "", "ssh", "daemon", "pull"}[r.rng.IntN(5)]
			r.apart = r.way == "pull"
			r.plain, r.slow = r.apart, r.apart // nobody can keep a sender at another host from a file that is being written
			r.watch = []string{"fsnotify", "auto"}[r.rng.IntN(2)]
		},
		harm: func(ctx context.Context, r *rig) error { return r.weather(ctx, long, list) },
	}
	return s.run(ctx, one, 1, seed)
}

// weather injects faults with pauses between them until time is up.
func (r *rig) weather(ctx context.Context, long time.Duration, list []fault) error {
	r.note("to %s, watch %s", cmp.Or(r.way, "a folder"), r.watch)
	if r.way == "pull" { // which sees no file's time of change
		list = slices.DeleteFunc(slices.Clone(list), func(f fault) bool { return f.name == "times of 1970 and 2106" })
	}
	var names []string
	flat := r.flatness()
	for end := time.Now().Add(long); time.Now().Before(end); {
		f := list[r.rng.IntN(len(list))]
		names = append(names, f.name)
		err := f.harm(ctx, r)
		if f.heal != nil {
			err = errors.Join(err, f.heal(ctx, r))
		}
		if err != nil {
			return fmt.Errorf("%s, after %s: %w", f.name, strings.Join(names, ", "), err)
		}
		if err := lab.Pause(ctx, r.random(500*pauseUnit, 4*second)); err != nil {
			return err
		}
	}
	r.count("faults", len(names))
	return flat(r)
}

// flatness looks at memory from now on; the function that it returns tells
// whether it grew, once a soak is long enough to tell: the second half against
// the second quarter, since the first one warms up.
func (r *rig) flatness() func(*rig) error {
	type look struct {
		at  time.Time
		rss int64
	}
	var looks []look
	stop, done := make(chan struct{}), make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * second):
				looks = append(looks, look{time.Now(), r.bounds().rss})
			}
		}
	}()
	return func(r *rig) error {
		close(stop)
		<-done
		all := time.Since(begun)
		if all < 10*minute {
			return nil
		}
		median := func(from, to float64) int64 {
			var some []int64
			for _, l := range looks {
				if at := l.at.Sub(begun).Seconds() / all.Seconds(); at >= from && at < to && l.rss > 0 {
					some = append(some, l.rss)
				}
			}
			slices.Sort(some)
			return some[len(some)/2]
		}
		early, late := median(0.25, 0.5), median(0.75, 1)
		r.note("memory %.1f MB in the second quarter, %.1f in the last", float64(early)/1e6, float64(late)/1e6)
		if float64(late) > 1.05*float64(early) {
			return fmt.Errorf("C6: memory grew from %d to %d bytes", early, late)
		}
		return nil
	}
}
