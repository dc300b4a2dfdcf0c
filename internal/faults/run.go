package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// report is how a fault went.
type report struct {
	fault
	injected int
	seed     uint64
	took     time.Duration
	shown    time.Duration // the longest until the status showed it
	whole    time.Duration // the longest from heal until the target equalled the root
	reads    int
	noted    []string
	err      error
	skipped  string
}

// run injects a fault so many times into a rig of its own.
func (s *suite) run(ctx context.Context, f fault, times int, seed uint64) report {
	rep := report{fault: f, seed: seed}
	if f.lacks != nil {
		if rep.skipped = f.lacks(); rep.skipped != "" {
			return rep
		}
	}
	begun, binary := time.Now(), s.binary
	dir, err := os.MkdirTemp(s.dir, "rig-")
	if err == nil && f.patches != nil {
		binary, err = s.build(ctx, f.patches)
	}
	if err != nil {
		rep.err = err
		return rep
	}
	_ = os.Chmod(dir, 0o755) // who is no root reads in it, too
	r := newRig(binary, dir, seed, f.name)
	r.long, r.single = s.long, s.single
	if f.set != nil {
		f.set(r)
	}
	err = r.start(ctx)
	for rep.injected < times && err == nil {
		if err = s.inject(ctx, r, f, &rep); err == nil {
			rep.injected++
		}
	}
	if err == nil {
		err = r.atTheEnd(ctx)
	}
	if r.reader != nil {
		var torn []string
		if rep.reads, torn = r.reader.seen(); len(torn) > 0 {
			err = errors.Join(err, fmt.Errorf("C3: %d torn files in %d reads, such as %s", len(torn), rep.reads, torn[0]))
		}
	}
	if err != nil && r.log != nil {
		err = fmt.Errorf("%w\nfastsync said last:\n%s", err, r.tail(3000))
	}
	r.close()
	rep.took, rep.err, rep.noted = time.Since(begun), err, r.told()
	if err == nil || !s.keep {
		_ = os.RemoveAll(dir)
	}
	return rep
}

// inject does it once, and checks what must be true afterwards.
func (s *suite) inject(ctx context.Context, r *rig, f fault, rep *report) error {
	from := len(r.said())
	wait := func() (time.Duration, error) { return 0, nil }
	if f.shows != "" {
		wait = r.shown(ctx, f.shows)
	}
	err := f.harm(ctx, r)
	shown, unseen := wait()
	rep.shown = max(rep.shown, shown)
	if f.heal != nil && (err == nil || ctx.Err() == nil) {
		err = errors.Join(err, f.heal(ctx, r))
	}
	if err = errors.Join(err, unseen); err != nil {
		return err
	}
	healed := time.Now()
	patience := f.settles
	if patience == 0 {
		patience = 30 * time.Second
	}
	release := r.quiet()
	defer release()
	for n := 1; n <= max(r.targets, 1); n++ {
		target := r.target
		if n > 1 {
			target = r.nth(n)
		}
		if err := r.same(ctx, target, f.killed, patience); err != nil {
			return err
		}
	}
	rep.whole = max(rep.whole, time.Since(healed))
	return errors.Join(r.ledger(ctx, patience), r.announced(f, from))
}

// atTheEnd sees that nothing leaked. It ends fastsync.
func (r *rig) atTheEnd(ctx context.Context) error {
	release := r.quiet()
	defer release()
	targets := []string{r.target}
	for n := 2; n <= r.targets; n++ {
		targets = append(targets, r.nth(n))
	}
	return errors.Join(r.canary.sings(targets...), r.leftovers(ctx), r.bounded(ctx), r.goroutines(ctx))
}

// stopped stops or continues all processes of a group.
func (r *rig) stopped(g *lab.Group, on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	g.Signal(sig)
}

func (r *rig) next() int { r.markers++; return r.markers }

func (r *rig) note(format string, args ...any) {
	r.noted = append(r.noted, fmt.Sprintf(format, args...))
}

// longest keeps the most that something took.
func (r *rig) longest(what string, took time.Duration) {
	r.most[what] = max(r.most[what], took)
}

// count adds to how often something happened.
func (r *rig) count(what string, n int) { r.counts[what] += n }

// told is all that injections have noted.
func (r *rig) told() []string {
	all := slices.Clone(r.noted)
	for what, took := range r.most {
		all = append(all, fmt.Sprintf("%s %s", what, short(took)))
	}
	for what, n := range r.counts {
		all = append(all, fmt.Sprintf("%s: %d", what, n))
	}
	if r.peak > 0 {
		all = append(all, fmt.Sprintf("at most %d MB", r.peak>>20))
	}
	slices.Sort(all)
	return all
}

func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// seen is the report's last column.
func (r report) seen() string {
	switch {
	case r.skipped != "":
		return "left out: " + r.skipped
	case r.err != nil:
		first, _, _ := strings.Cut(r.err.Error(), "\n")
		return "FAILED: " + first
	}
	parts := []string{"whole " + short(r.whole) + " after"}
	if r.shows != "" {
		parts = append(parts, "shown after "+short(r.shown))
	}
	parts = append(parts, r.noted...)
	return strings.Join(append(parts, fmt.Sprintf("%d reads, none torn", r.reads)), "; ")
}
