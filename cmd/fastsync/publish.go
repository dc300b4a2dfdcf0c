package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/publisher"
	"github.com/fastsync/fastsync/subscriber"
)

// alive is how old a heartbeat may be before its writer counts as gone.
const alive = 30 * time.Second

func newPublish() *cobra.Command {
	var cfg config
	var ref string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "publish PATH...",
		Short: "Say that paths changed, and wait until every live target has them",
		RunE: func(cmd *cobra.Command, paths []string) error {
			if len(paths) == 0 {
				return errors.New("which path changed? type fastsync publish PATH..., each absolute or relative to the source")
			}
			if timeout <= 0 {
				return fmt.Errorf("--timeout %s: give a time to wait, such as 30s", timeout)
			}
			if err := cfg.load(cmd); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			client, err := cfg.connect(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			p := publishing{redis: client, keys: fastsync.NewKeys(cfg.Name), ref: ref}
			if err := p.publish(ctx, paths); err != nil {
				return err
			}
			if p.live == 0 && wait {
				return errors.New("published, but no target is live, so none confirms it; it ships when fastsync run or subscribe runs")
			}
			if p.live == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "fastsync: published; no target is live, it ships when fastsync run or subscribe runs")
			}
			if !wait {
				p.mention(cmd.ErrOrStderr())
				return nil
			}
			return errors.Join(p.wait(ctx, timeout), p.absences())
		},
	}
	cfg.addRedisFlags(cmd.Flags())
	cmd.Flags().StringVar(&ref, "ref", "", "a `WORD` of yours to ask about later")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until every live target has all of them")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "give up after this long")
	return cmd
}

// publishing is one run of the publish command.
type publishing struct {
	redis redis.UniversalClient
	keys  fastsync.Keys
	ref   string
	after string          // the last delivery before publishing
	open  map[string]bool // event@target that is not delivered
	names map[string]string
	live  int // targets
	// failed are paths that a target cannot have.
	failed []error
	absent []string // paths that are not there
	keep   []string // targets that delete nothing
}

// absences is an error for what is not there: no target that deletes nothing can
// be said to have it.
func (p *publishing) absences() error {
	if len(p.absent) == 0 || len(p.keep) == 0 {
		return nil
	}
	return fmt.Errorf("%q is not in the source; without --delete, %s keeps what it has of it", p.absent, strings.Join(p.keep, ", "))
}

func (p *publishing) mention(w io.Writer) {
	if err := p.absences(); err != nil {
		fmt.Fprintln(w, "fastsync: published, but", err)
	}
}

func (p *publishing) publish(ctx context.Context, paths []string) error {
	source, err := p.source(ctx)
	if err != nil {
		return err
	}
	var events []fastsync.Event
	var faults []error
	for _, given := range paths {
		e, err := eventFor(source, given)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		e.Ref = p.ref
		events = append(events, e)
		if _, err := os.Lstat(filepath.Join(source, e.Path)); errors.Is(err, os.ErrNotExist) {
			p.absent = append(p.absent, given)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("nothing was published: %w", err)
	}
	p.after = "0"
	if last, err := p.redis.XRevRangeN(ctx, p.keys.Deliveries(), "+", "-", 1).Result(); err == nil && len(last) == 1 {
		p.after = last[0].ID
	}
	live, err := liveTargets(ctx, p.redis, p.keys)
	if err != nil {
		return err
	}
	ids, err := publisher.New(publisher.Config{Redis: p.redis, Keys: p.keys}).Once(ctx, events...)
	if err != nil {
		return err
	}
	p.open, p.names = map[string]bool{}, map[string]string{}
	for i, id := range ids {
		p.names[id] = events[i].Path
		for _, t := range live {
			p.open[id+"@"+t.Target] = true
		}
	}
	p.live = len(live)
	for _, t := range live {
		if !t.Delete {
			p.keep = append(p.keep, t.Target)
		}
	}
	return nil
}

// source asks the agent where the root is, so that absolute paths work.
func (p *publishing) source(ctx context.Context) (string, error) {
	text, err := p.redis.HGet(ctx, p.keys.Agent(), "state").Result()
	if errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("no agent has told where the root is, under %s; is fastsync running, and is --name the same?", p.keys.Agent())
	}
	if err != nil {
		return "", fmt.Errorf("ask redis where the root is: %w", err)
	}
	var state agentState
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		return "", fmt.Errorf("read the agent's state: %w", err)
	}
	return state.Source, nil
}

func eventFor(source, given string) (fastsync.Event, error) {
	rel, err := publisher.Relative(source, given)
	if err != nil {
		return fastsync.Event{}, err
	}
	if _, err := os.Stat(source); err != nil {
		return fastsync.Event{}, fmt.Errorf("%q cannot be looked at: the source %s is not on this host; run it on the media host, or PUBLISH the path to the agent's channel", given, source)
	}
	rel, scope, err := publisher.Look(source, rel, "")
	if err != nil {
		return fastsync.Event{}, err
	}
	return fastsync.Event{
		Change: fastsync.Change{Path: filepath.ToSlash(rel), Scope: scope}, Origin: fastsync.CMS, At: time.Now(),
	}, nil
}

func liveTargets(ctx context.Context, client redis.UniversalClient, keys fastsync.Keys) ([]subscriber.State, error) {
	states, err := readTargets(ctx, client, keys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(states, func(st subscriber.State) bool { return time.Since(st.Heartbeat) >= alive }), nil
}

func readTargets(ctx context.Context, client redis.UniversalClient, keys fastsync.Keys) ([]subscriber.State, error) {
	all, err := client.HGetAll(ctx, keys.Targets()).Result()
	if err != nil {
		return nil, fmt.Errorf("read the targets: %w", err)
	}
	var states []subscriber.State
	for name, text := range all {
		st := subscriber.State{Target: name}
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			return nil, fmt.Errorf("read the state of target %s: %w", name, err)
		}
		states = append(states, st)
	}
	slices.SortFunc(states, func(a, b subscriber.State) int { return strings.Compare(a.Target, b.Target) })
	return states, nil
}

// wait returns nil only when every live target has every path.
func (p *publishing) wait(ctx context.Context, timeout time.Duration) error {
	for len(p.open) > 0 {
		streams, err := p.redis.XRead(ctx, &redis.XReadArgs{
			Streams: []string{p.keys.Deliveries(), p.after}, Count: 1000, Block: 500 * time.Millisecond,
		}).Result()
		if ctx.Err() != nil {
			return errors.Join(errors.Join(p.failed...), p.late(ctx, timeout))
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read deliveries: %w", err)
		}
		if len(streams) == 0 {
			continue
		}
		for _, m := range streams[0].Messages {
			p.after = m.ID
			p.delivered(m.Values)
		}
	}
	return errors.Join(p.failed...)
}

func (p *publishing) delivered(values map[string]any) {
	text := func(key string) string { s, _ := values[key].(string); return s }
	key := text("event") + "@" + text("target")
	if !p.open[key] {
		return
	}
	if text("ok") != "1" {
		p.failed = append(p.failed, fmt.Errorf("target %s cannot have %q: %s", text("target"), text("path"), text("error")))
	}
	delete(p.open, key)
}

// late says what is not confirmed at the end of ctx.
func (p *publishing) late(ctx context.Context, timeout time.Duration) error {
	when := "within " + timeout.String()
	if errors.Is(ctx.Err(), context.Canceled) {
		when = "before you stopped waiting"
	}
	var lines []error
	for _, key := range slices.Sorted(maps.Keys(p.open)) {
		id, name, _ := strings.Cut(key, "@")
		lines = append(lines, fmt.Errorf("target %s did not confirm %q %s; it is still queued, see fastsync status", name, p.names[id], when))
	}
	return errors.Join(lines...)
}
