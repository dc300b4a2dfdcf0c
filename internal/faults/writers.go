package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// Writers that take their time, and whoever reads what is there of it.

// writeSlowly writes a file piece by piece, and sees that nothing of it is at the
// target before it is closed.
func writeSlowly(ctx context.Context, r *rig, took time.Duration) error {
	const pieces = 50
	p := fmt.Sprintf("keep-slow-%d", r.next())
	f, err := os.Create(filepath.Join(r.root, p))
	if err != nil {
		return err
	}
	defer f.Close()
	for range pieces {
		if _, err := f.Write(record(r.rng, 10_000)); err != nil {
			return err
		}
		if err := lab.Pause(ctx, took/pieces); err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(r.target, p)); err == nil {
			return fmt.Errorf("%s was shipped while its writer was at it", p)
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	after, err := r.arrives(ctx, p, 10*time.Second)
	r.longest("there after its close", after)
	return err
}

// growAndShrink changes files in place again and again while they ship: they are
// whole after each close, and only then.
func growAndShrink(ctx context.Context, r *rig) error {
	name := fmt.Sprintf("keep-grows-%d", r.next())
	p := filepath.Join(r.root, name)
	whole := r.staysWhole(ctx, filepath.Join(r.target, name))
	first := record(r.rng, 1<<20)
	for range 20 {
		if err := os.WriteFile(p, first, 0o644); err != nil {
			return err
		}
		if err := lab.Pause(ctx, r.random(0, 10*time.Millisecond)); err != nil {
			return err
		}
		if err := appendSlowly(ctx, p, record(r.rng, 1<<20)); err != nil {
			return err
		}
		if err := lab.Pause(ctx, r.random(0, 40*time.Millisecond)); err != nil {
			return err
		}
		if err := os.Truncate(p, int64(len(first))); err != nil {
			return err
		}
		if err := lab.Pause(ctx, r.random(0, 40*time.Millisecond)); err != nil {
			return err
		}
	}
	return whole()
}

// appendSlowly takes some 25 ms for it.
func appendSlowly(ctx context.Context, file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(data, len(data)/8+1) {
		if _, err = f.Write(piece); err == nil {
			err = lab.Pause(ctx, 3*time.Millisecond)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

// staysWhole reads a file at the target over and over; the function that it
// returns ends that and tells whether it ever was torn.
func (r *rig) staysWhole(ctx context.Context, file string) func() error {
	ctx, cancel := context.WithCancel(ctx)
	why := make(chan string, 1)
	r.running.Go(func() {
		found := ""
		for ctx.Err() == nil {
			if data, err := os.ReadFile(file); err == nil && found == "" {
				found = torn(data)
			}
			_ = lab.Pause(ctx, 3*time.Millisecond)
		}
		why <- found
	})
	return func() error {
		cancel()
		if found := <-why; found != "" {
			return fmt.Errorf("C3: torn: %s: %s", file, found)
		}
		return nil
	}
}

// versions writes a file over and over, each time with a higher number; the function
// that it returns ends that and tells for how long the target went back at most.
func (r *rig) versions(ctx context.Context, file string) (back func() time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() {
		for ctx.Err() == nil {
			r.version++ // on from the last injection's
			next, body := filepath.Join(r.root, filepath.Dir(file), "keep-next"), []byte(strconv.Itoa(r.version))
			if os.WriteFile(next, append(head(body), body...), 0o644) == nil {
				_ = os.Rename(next, filepath.Join(r.root, file))
			}
			_ = lab.Pause(ctx, 20*time.Millisecond)
		}
	})
	var longest time.Duration
	both.Go(func() {
		newest, newer := 0, time.Now() // newer is when it was last seen
		for ctx.Err() == nil {
			text, err := os.ReadFile(filepath.Join(r.target, file))
			n, bad := strconv.Atoi(string(text[min(len(text), headLen):]))
			if err == nil && bad == nil {
				if n >= newest {
					newest, newer = n, time.Now()
				} else {
					longest = max(longest, time.Since(newer))
				}
			}
			_ = lab.Pause(ctx, time.Millisecond)
		}
	})
	return func() time.Duration {
		cancel()
		both.Wait()
		if longest > 0 {
			r.longest("an older version after a newer", longest)
		}
		return longest
	}
}

// passedOver rewrites a file of a directory that is too large for the live lane,
// while that ships over the bulk lane all the time.
func passedOver(ctx context.Context, r *rig) error {
	if err := r.remove("keep-large-*"); err != nil {
		return err
	}
	dir := fmt.Sprintf("keep-large-%d", r.next())
	if err := os.Mkdir(filepath.Join(r.root, dir), 0o755); err != nil {
		return err
	}
	for i := range 1200 {
		if err := os.WriteFile(filepath.Join(r.root, dir, strconv.Itoa(i)), record(r.rng, 100), 0o644); err != nil {
			return err
		}
	}
	back := r.versions(ctx, filepath.Join(dir, "version"))
	for range 30 {
		if err := r.say(ctx, []string{`{"path":"` + dir + `","scope":"tree"}`}); err != nil {
			return err
		}
		if err := lab.Pause(ctx, r.random(50*time.Millisecond, 250*time.Millisecond)); err != nil {
			return err
		}
	}
	if longest := back(); longest > 0 {
		return fmt.Errorf("an older version lay over a newer for %s", longest)
	}
	return nil
}
