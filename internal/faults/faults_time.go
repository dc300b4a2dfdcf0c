package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

const (
	second, minute = time.Second, time.Minute
	pauseUnit      = time.Millisecond
)

// delays are those of single files to the second target.
func (r *rig) delays(ctx context.Context, n int) ([]time.Duration, error) {
	var all []time.Duration
	for range n {
		p, err := r.mark()
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		at := filepath.Join(r.nth(2), p)
		err = lab.Until(ctx, 10*second, 200*time.Microsecond, func() bool { info, err := os.Lstat(at); return err == nil && info.Size() > 0 })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		all = append(all, time.Since(begun))
		if err := lab.Pause(ctx, r.random(50*pauseUnit, 150*pauseUnit)); err != nil {
			return nil, err
		}
	}
	slices.Sort(all)
	return all, nil
}

// oneOfFive cuts the first target off and compares how the second fares, while
// what waits for the first one grows.
func oneOfFive(ctx context.Context, r *rig) error {
	const files = 100
	before, err := r.delays(ctx, files)
	if err != nil {
		return err
	}
	r.link.Hole(true)
	seen := r.shown(ctx, failing)
	if _, err := r.mark(); err != nil {
		return err
	}
	if _, err := seen(); err != nil {
		return err
	}
	var after []time.Duration
	for end := time.Now().Add(r.long); len(after) == 0 || time.Now().Before(end); {
		some, err := r.delays(ctx, files)
		if err != nil {
			return err
		}
		after = append(after, some...)
	}
	slices.Sort(after)
	r.count("files to another beside it", len(after))
	for _, percent := range []int{50, 99} {
		was, is := before[files*percent/100], after[len(after)*percent/100]
		r.longest(fmt.Sprintf("p%d of another", percent), was)
		r.longest(fmt.Sprintf("p%d of another beside it", percent), is)
		if percent == 50 && is > was*3/2+5*pauseUnit || is > 3*was+20*pauseUnit {
			return fmt.Errorf("the p%d of another target was %s and is %s", percent, was, is)
		}
	}
	return nil
}

var timeFaults = []fault{
	{
		name: "times of 1970 and 2106", promised: "ship as they are", fast: true, set: sure,
		harm: func(_ context.Context, r *rig) error {
			for i, at := range []time.Time{time.Unix(0, 0), time.Unix(1, 1), time.Unix(1<<31-1, 0), time.Unix(1<<32-1, 999_999_999), time.Now().Add(24 * time.Hour), time.Now().Add(-24 * time.Hour)} {
				p := filepath.Join(r.root, fmt.Sprintf("keep-time-%d", i))
				if err := os.WriteFile(p, record(r.rng, 100), 0o644); err != nil {
					return err
				}
				if err := os.Chtimes(p, at, at); err != nil {
					return err
				}
			}
			return nil
		},
	},
	clockJumps("ahead", aDay),
	clockJumps("back", -aDay),
	{
		name: "one target of five stopped", promised: "the others are as fast as before", alone: true,
		set:  func(r *rig) { overSSH(r); r.still, r.targets = true, 5 },
		harm: oneOfFive, heal: hole(false), settles: 2 * minute, killed: true,
	},
}
