package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/subscriber"
)

func newSweep() *cobra.Command {
	var cfg config
	var only string
	var dryRun, release bool
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Compare the root with each target now, repair what differs, and compare that again",
		Args:  noArgs("fastsync sweep, with --target NAME for one target"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.load(cmd); err != nil {
				return err
			}
			ctx := cmd.Context()
			client, err := cfg.connect(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			keys := fastsync.NewKeys(cfg.Name)
			names, err := chosen(ctx, client, keys, only)
			if err != nil {
				return err
			}
			verb := "sweep"
			if dryRun {
				verb = "dry-run"
			}
			var faults []error
			for _, name := range names {
				if release {
					faults = append(faults, releaseTarget(ctx, cmd.OutOrStdout(), client, keys, name))
					continue
				}
				faults = append(faults, sweepTarget(ctx, cmd.OutOrStdout(), client, keys, name, verb))
			}
			return errors.Join(faults...)
		},
	}
	cfg.addRedisFlags(cmd.Flags())
	cmd.Flags().StringVar(&only, "target", "", "only the target called `NAME`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the drift by name, repair nothing")
	cmd.Flags().BoolVar(&release, "release", false, "let the deletions through that a brake holds")
	return cmd
}

func chosen(ctx context.Context, client redis.UniversalClient, keys fastsync.Keys, only string) ([]string, error) {
	live, err := liveTargets(ctx, client, keys)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range live {
		names = append(names, t.Target)
	}
	if only == "" && len(names) > 0 {
		return names, nil
	}
	if slices.Contains(names, only) {
		return []string{only}, nil
	}
	return nil, fmt.Errorf("no live target called %q; live are: %s", only, strings.Join(names, ", "))
}

// releaseTarget lets through the deletions that a brake holds.
func releaseTarget(ctx context.Context, w io.Writer, client redis.UniversalClient, keys fastsync.Keys, name string) error {
	heard, err := client.Publish(ctx, keys.Control(name), "release").Result()
	if err != nil {
		return fmt.Errorf("release the deletions of target %s: %w", name, err)
	}
	if heard == 0 {
		return fmt.Errorf("target %s: its subscriber did not hear the order; try again in a moment", name)
	}
	fmt.Fprintf(w, "%s: the held deletions go now; fastsync status shows when none is left\n", name)
	return nil
}

// sweepTarget orders a sweep and shows it until it ends.
func sweepTarget(ctx context.Context, w io.Writer, client redis.UniversalClient, keys fastsync.Keys, name, verb string) error {
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	states, err := readTargets(ctx, client, keys)
	if err != nil {
		return err
	}
	holder := "" // who is ordered
	for _, st := range states {
		if st.Target == name {
			holder = st.Holder
		}
	}
	heard, err := client.Publish(ctx, keys.Control(name), verb+" "+id).Result()
	if err != nil {
		return fmt.Errorf("ask target %s for a sweep: %w", name, err)
	}
	if heard == 0 {
		return fmt.Errorf("target %s: its subscriber did not hear the order; try again in a moment", name)
	}
	show := &progress{w: w, bar: w == os.Stdout && isTerminal(os.Stdout)}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		states, err = readTargets(ctx, client, keys)
		if err != nil {
			return err
		}
		for _, st := range states {
			if st.Target == name && time.Since(st.Heartbeat) > alive {
				return fmt.Errorf("target %s: its subscriber has gone; start it again, and see fastsync status", name)
			}
			if st.Target != name {
				continue
			}
			for _, answer := range st.Answers {
				if answer.ID == id {
					return show.end(name, answer)
				}
			}
			if st.Holder != holder {
				return fmt.Errorf("target %s: its subscriber was started anew before the sweep had ended; order it again", name)
			}
			if st.Sweep.ID == id {
				show.step(st, time.Now())
			} else {
				show.waits(st, time.Now())
			}
		}
	}
}

// progress shows a running sweep: a bar on a terminal, else a line every 10 s.
type progress struct {
	w    io.Writer
	bar  bool
	last time.Time
}

// waits says what an order waits for: a running sweep, or a target that takes nothing.
func (p *progress) waits(st subscriber.State, now time.Time) {
	switch {
	case now.Sub(p.last) < 10*time.Second:
		return
	case st.Why != "" || st.SweepFault != "":
		fmt.Fprintf(p.w, "%s: waits until the target answers: %s\n", st.Target, cmp.Or(st.Why, st.SweepFault))
	case st.Sweep.Running:
		fmt.Fprintf(p.w, "%s: waits for the sweep that runs since %s\n", st.Target, ago(now, st.Sweep.Started))
	default:
		return
	}
	p.last = now
}

func (p *progress) step(st subscriber.State, now time.Time) {
	if !p.bar && now.Sub(p.last) < 10*time.Second {
		return
	}
	p.last = now
	s := st.Sweep
	line := fmt.Sprintf("%s: comparing, %d differ so far", st.Target, s.Drift)
	if s.Repaired > 0 {
		rate := float64(s.Repaired) / now.Sub(s.Started).Seconds()
		left := time.Duration(float64(s.Drift-s.Repaired) / rate * float64(time.Second))
		line = fmt.Sprintf("%s: %d of %d repaired, %.0f/s, %s left", st.Target, s.Repaired, s.Drift, rate, left.Round(time.Second))
	}
	if !p.bar {
		fmt.Fprintln(p.w, line)
		return
	}
	const width = 30
	done := 0
	if s.Drift > 0 {
		done = min(width, s.Repaired*width/s.Drift)
	}
	fmt.Fprintf(p.w, "\r\x1b[K[%s%s] %s", strings.Repeat("█", done), strings.Repeat("·", width-done), line)
}

func (p *progress) end(target string, s subscriber.Sweep) error {
	if p.bar {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	if s.Err != "" {
		return fmt.Errorf("target %s: %s", target, s.Err)
	}
	fmt.Fprintf(p.w, "%s: drift %d, repaired %d, left %d, only at the target %d, took %s\n", target, s.Drift, s.Repaired, s.Left, s.Extra, s.Took.Round(time.Millisecond))
	for _, name := range s.Names {
		fmt.Fprintf(p.w, "  %q\n", name)
	}
	if s.Left > 0 && !s.DryRun {
		return fmt.Errorf("target %s: %d paths still differ after the repair", target, s.Left)
	}
	return nil
}
