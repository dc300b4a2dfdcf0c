package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/subscriber"
)

// status is what `fastsync status --json` prints.
type status struct {
	Root    string         `json:"root"`
	Agent   *agentState    `json:"agent"`
	Targets []targetStatus `json:"targets"`
	// RedisFault says why Redis can be read but not written; empty where it can.
	RedisFault string `json:"redis_fault,omitempty"`
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
	// Quarantined paths are tried once an hour.
	Quarantined bool `json:"quarantined,omitempty"`
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
	st.RedisFault = unwritable(ctx, client)
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
