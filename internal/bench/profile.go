package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// profile runs the burst and the steady load with fastsync's profiler on.
func profile(ctx context.Context, w *world, into string) error {
	into, err := filepath.Abs(into)
	if err != nil {
		return err
	}
	var t table
	tools := w.contestants(ctx, &t, fsnotify, fanotify)
	for _, one := range tools {
		for _, work := range []string{"burst", "steady"} {
			dir := filepath.Join(into, filepath.Base(one.name[len("fastsync "):]), work)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			w.env = []string{"FASTSYNC_PROFILE=" + dir}
			if work == "burst" {
				_, err = w.burst(ctx, one, w.sized(), &t)
			} else {
				_, _, err = w.steadily(ctx, one, w.sizes.rate, w.sizes.steady)
			}
			if err != nil {
				return fmt.Errorf("profile of %s: %w", work, err)
			}
			for _, name := range []string{"cpu.pprof", "heap.pprof"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					return fmt.Errorf("fastsync left no profile: %w", err)
				}
				fmt.Println(filepath.Join(dir, name))
			}
		}
	}
	return nil
}
