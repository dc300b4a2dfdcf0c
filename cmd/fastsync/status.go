package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/subscriber"
	"github.com/fastsync/fastsync/watcher"
)

// status is what `fastsync status --json` prints.
type status struct {
	Root    string         `json:"root"`
	Agent   *agentState    `json:"agent"`
	Targets []targetStatus `json:"targets"`
}

type targetStatus struct {
	subscriber.State
	Live       bool          `json:"live"`
	LagEvents  int64         `json:"lag_events"`
	LagSeconds float64       `json:"lag_seconds"`
	Paths      []failedEntry `json:"failed_paths"`
}

type failedEntry struct {
	Path  string    `json:"path"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	Tries int       `json:"tries"`
	Held  bool      `json:"held,omitempty"`
}

func newStatus() *cobra.Command {
	var cfg config
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show what each target has, what is late, and what is wrong", Args: noArgs("fastsync status, with --name NAME for another root"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.load(cmd); err != nil {
				return err
			}
			client, err := cfg.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			st, err := readStatus(cmd.Context(), client, cfg.Name)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(st); err != nil {
					return err
				}
			} else {
				printStatus(cmd.OutOrStdout(), st, time.Now())
			}
			return running(st, time.Now())
		},
	}
	cfg.addRedisFlags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// running returns an error when neither an agent nor a target is live.
func running(st status, now time.Time) error {
	if st.Agent != nil && now.Sub(st.Agent.Heartbeat) <= alive || slices.ContainsFunc(st.Targets, func(t targetStatus) bool { return t.Live }) {
		return nil
	}
	return fmt.Errorf("nothing runs as --name %s with this Redis; start fastsync run, or give --name and --redis as they were given there", st.Root)
}

func readStatus(ctx context.Context, client redis.UniversalClient, name string) (status, error) {
	keys := fastsync.NewKeys(name)
	st := status{Root: name, Targets: []targetStatus{}}
	text, err := client.HGet(ctx, keys.Agent(), "state").Result()
	switch {
	case errors.Is(err, redis.Nil):
	case err != nil:
		return st, fmt.Errorf("read the agent's state: %w", err)
	default:
		st.Agent = &agentState{}
		if err := json.Unmarshal([]byte(text), st.Agent); err != nil {
			return st, fmt.Errorf("read the agent's state: %w", err)
		}
	}
	states, err := readTargets(ctx, client, keys)
	if err != nil {
		return st, err
	}
	for _, s := range states {
		t := targetStatus{State: s, Live: time.Since(s.Heartbeat) < alive, Paths: []failedEntry{}}
		if t.LagEvents, t.LagSeconds, err = lag(ctx, client, keys, s.Target); err != nil {
			return st, err
		}
		if t.Paths, err = readFailed(ctx, client, keys, s.Target); err != nil {
			return st, err
		}
		st.Targets = append(st.Targets, t)
	}
	return st, nil
}

// lag counts what the target's group has not acknowledged, and how old the
// oldest of it is. It counts at most 10,000 entries.
func lag(ctx context.Context, client redis.UniversalClient, keys fastsync.Keys, target string) (int64, float64, error) {
	groups, err := client.XInfoGroups(ctx, keys.Events()).Result()
	if err != nil && strings.Contains(err.Error(), "no such key") {
		return 0, 0, nil // redis lost its data; the subscriber tells it as a gap
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look at the consumer groups: %w", err)
	}
	for _, g := range groups {
		if g.Name != target {
			continue
		}
		unread, err := client.XRangeN(ctx, keys.Events(), "("+g.LastDeliveredID, "+", 10_000).Result()
		if err != nil && !strings.Contains(err.Error(), "invalid start ID") { // nothing can follow the highest id
			return 0, 0, fmt.Errorf("count unread events: %w", err)
		}
		oldest := ""
		if len(unread) > 0 {
			oldest = unread[0].ID
		}
		if g.Pending > 0 {
			pending, err := client.XPending(ctx, keys.Events(), target).Result()
			if err != nil {
				return 0, 0, fmt.Errorf("look at pending events: %w", err)
			}
			oldest = pending.Lower
		}
		var ms int64
		if _, err := fmt.Sscanf(oldest, "%d-", &ms); err != nil {
			return g.Pending + int64(len(unread)), 0, nil
		}
		return g.Pending + int64(len(unread)), max(0, time.Since(time.UnixMilli(ms)).Seconds()), nil
	}
	return 0, 0, nil
}

func readFailed(ctx context.Context, client redis.UniversalClient, keys fastsync.Keys, target string) ([]failedEntry, error) {
	all, err := client.HGetAll(ctx, keys.Failed(target)).Result()
	if err != nil {
		return nil, fmt.Errorf("read failed paths: %w", err)
	}
	list := make([]failedEntry, 0, len(all))
	for p, text := range all {
		f := failedEntry{}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			f.Why = text
		}
		f.Path = p
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b failedEntry) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

func printStatus(w io.Writer, st status, now time.Time) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("%s", verdict(st, now))
	printAgent(p, st, now)
	for _, t := range st.Targets {
		printTarget(p, t, now)
	}
}

func printAgent(p func(string, ...any), st status, now time.Time) {
	a := st.Agent
	if a == nil {
		p("agent     %s: none has run yet", st.Root)
		return
	}
	if now.Sub(a.Heartbeat) > alive {
		p("agent     %s: GONE since %s; start it again", a.Source, ago(now, a.Heartbeat))
	} else {
		p("agent     %s: watch %s, %s, %d published paths relayed, %d refused; fastsync %s", a.Source, a.Watch.Mode, watched(a.Watch), a.Relayed, a.Refused, a.Version)
	}
	p("          %s; last catch-up %s", a.Chosen, ago(now, a.CaughtUp))
	if a.Watch.RootError != "" {
		p("          %s", a.Watch.RootError)
	}
	if a.Watch.Unwatched > 0 && a.Watch.Mode == watcher.Fanotify {
		p("          not all is watched: %s", a.Watch.Reason)
	} else if a.Watch.Unwatched > 0 {
		p("          %d directories are not watched: %s", a.Watch.Unwatched, a.Watch.Reason)
	}
}

// watched says how much is watched: one mark of fanotify covers a whole file
// system, so that nobody knows the number of directories.
func watched(w watcher.Status) string {
	if w.Mode == watcher.Fanotify {
		return "the whole file system"
	}
	return fmt.Sprintf("%d directories", w.Watched)
}

// printTarget puts what is wrong first, then the figures.
func printTarget(p func(string, ...any), t targetStatus, now time.Time) {
	health := strings.ToUpper(t.Health)
	if !t.Live {
		health = "GONE since " + ago(now, t.Heartbeat) + "; start its subscriber again"
	}
	p("target    %s → %s: %s", t.Target, t.Destination, health)
	if t.Why != "" {
		p("          why: %s", t.Why)
	}
	if wait := t.NextTry.Sub(now); wait > 0 {
		p("          next try in %s; it heals by itself once the cause is gone", (wait + time.Second/2).Round(time.Second))
	}
	if t.SweepFault != "" && t.SweepFault != t.Why {
		p("          the sweep cannot compare: %s", t.SweepFault)
	}
	if t.Gap != "" {
		p("          gap: %s; a sweep will close it", t.Gap)
	}
	p("          lag %d events, %.1f s; last delivery %s; %d delivered", t.LagEvents, t.LagSeconds, ago(now, t.LastDelivery), t.Delivered)
	if t.Sweep.Finished.IsZero() {
		p("          no sweep has finished yet: that the target equals the root is not proved")
	} else {
		p("          last sweep %s: drift %d, left %d, only at the target %d", ago(now, t.Sweep.Finished), t.Sweep.Drift, t.Sweep.Left, t.Sweep.Extra)
	}
	if len(t.Held) > 0 {
		p("          %d deletions held, such as %q: let them through with fastsync sweep --release --target %s", t.HeldCount, t.Held[0], t.Target)
	}
	failed := slices.DeleteFunc(slices.Clone(t.Paths), func(f failedEntry) bool { return f.Held }) // told above
	for _, f := range failed[:min(len(failed), 20)] {
		p("          failed %q: %s (%d tries since %s)", f.Path, f.Why, f.Tries, ago(now, f.Since))
	}
	if len(failed) > 20 {
		p("          and %d more failed paths; see --json", len(failed)-20)
	}
}

// verdict is one line for whoever was woken up: all is well, or who is not.
func verdict(st status, now time.Time) string {
	var wrong []string
	switch a := st.Agent; {
	case a == nil:
		wrong = append(wrong, "no agent has run")
	case now.Sub(a.Heartbeat) > alive:
		wrong = append(wrong, "the agent is gone")
	case a.Watch.RootError != "":
		wrong = append(wrong, "the root is gone")
	}
	busy := 0
	for _, t := range st.Targets {
		switch {
		case !t.Live:
			wrong = append(wrong, t.Target+" is gone")
		case t.Health == "sweeping":
			busy++
		case t.Health != "ok":
			wrong = append(wrong, t.Target+" is "+t.Health)
		}
	}
	switch {
	case len(wrong) > 0:
		return "NOT OK    " + strings.Join(wrong, ", ")
	case len(st.Targets) == 0:
		return "NOT OK    no target has been served yet: start fastsync run or subscribe"
	case busy > 0:
		return fmt.Sprintf("OK        %d of %d targets are being swept", busy, len(st.Targets))
	}
	return fmt.Sprintf("OK        %d of %d targets have all that is known", len(st.Targets), len(st.Targets))
}

func ago(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return now.Sub(at).Round(time.Second).String() + " ago"
}
