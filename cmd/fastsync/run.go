package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/filter"
	"github.com/fastsync/fastsync/internal/redisserver"
	"github.com/fastsync/fastsync/rsyncer"
	"github.com/fastsync/fastsync/subscriber"
	"github.com/fastsync/fastsync/watcher"
)

func newRun() *cobra.Command {
	return newService("run", "Watch the root and ship to every target, in one process", "fastsync run --source DIR --target DEST", true, true)
}

func newAgent() *cobra.Command {
	return newService("agent", "Only notice changes and put them into Redis (needs --redis)", "fastsync agent --source DIR --redis URL", true, false)
}

func newSubscribe() *cobra.Command {
	return newService("subscribe", "Only ship what is in Redis to the targets (needs --redis)", "fastsync subscribe --source DIR --target DEST --redis URL", false, true)
}

// service is one process with an agent, subscribers, or both.
type service struct {
	cfg         config
	log         zerolog.Logger
	targets     []target
	filter      *filter.Filter
	syncers     []*rsyncer.Rsyncer
	server      *redisserver.Server
	redis       redis.UniversalClient
	every       time.Duration // between sweeps
	mode        string        // of the watcher
	noFanotify  error         // why auto did not take it
	agent       bool
	subscribers bool
}

func newService(use, short, usage string, agent, subscribers bool) *cobra.Command {
	s := &service{agent: agent, subscribers: subscribers}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArgs(usage),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := once(s.cfg.load(cmd), s.prepare()); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	s.cfg.addFlags(cmd.Flags())
	return cmd
}

// once joins faults, each line once: several targets have the same one.
func once(faults ...error) error {
	var lines []error
	seen := map[string]bool{}
	for _, err := range faults {
		if err == nil {
			continue
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if !seen[line] {
				seen[line] = true
				lines = append(lines, errors.New(line))
			}
		}
	}
	return errors.Join(lines...)
}

// prepare finds every fault before anything starts.
func (s *service) prepare() error {
	s.log = newLogger(s.cfg.LogFormat)
	redis.SetLogger(redisLog{s.log})
	return errors.Join(s.prepareParts(), s.prepareRedis())
}

// prepareParts finds those of all but Redis.
func (s *service) prepareParts() error {
	var faults []error
	fault := func(err error) { faults = append(faults, err) }
	var err error
	if s.cfg.Source == "" {
		fault(errors.New("--source is missing: say which folder to ship"))
	} else if s.agent {
		if s.cfg.Source, err = realDir(s.cfg.Source); err != nil {
			fault(err)
		}
	}
	sourceGood := len(faults) == 0
	if !fastsync.GoodName(s.cfg.Name) {
		fault(fmt.Errorf("--name %q: use letters, digits, \"-\", \"_\" and \".\", at most 64", s.cfg.Name))
	}
	if s.filter, err = filter.New(s.cfg.Exclude); err != nil {
		fault(err)
	}
	if s.every, err = s.cfg.sweepEvery(); err != nil {
		fault(err)
	}
	if s.cfg.MaxDelete < 1 {
		fault(fmt.Errorf("--max-delete %d: give the most deletions at once, 1 or more; without --delete there are none", s.cfg.MaxDelete))
	}
	if s.cfg.LogFormat != "console" && s.cfg.LogFormat != "json" {
		fault(fmt.Errorf("--log-format %q: use console or json", s.cfg.LogFormat))
	}
	if s.cfg.Channel == "" {
		fault(errors.New("--channel is empty: give the channel on which the CMS publishes paths"))
	}
	if s.cfg.Warm < 0 {
		fault(fmt.Errorf("--warm %d: give the number of rsyncs to keep started for each target, 0 for none", s.cfg.Warm))
	}
	if s.subscribers {
		fault(s.prepareTargets(sourceGood))
	}
	if s.agent {
		fault(s.chooseWatch(sourceGood))
	}
	return errors.Join(faults...)
}

func (s *service) prepareTargets(sourceGood bool) error {
	var faults []error
	var err error
	s.targets, err = s.cfg.targets()
	faults = append(faults, err)
	faults = append(faults, rsyncer.Installed())
	if !sourceGood {
		return errors.Join(faults...)
	}
	faults = append(faults, s.apart())
	for _, t := range s.targets {
		r, err := rsyncer.New(rsyncer.Config{
			Source: s.cfg.Source, Target: t.Dest, Name: t.Name, Rsh: s.cfg.Rsh, Warm: s.cfg.Warm, Unconfined: !s.cfg.Confine,
			Delete: s.cfg.Delete, MaxDelete: s.cfg.MaxDelete, Filter: s.filter, Log: s.log.With().Str("target", t.Name).Logger(),
		})
		faults = append(faults, err)
		s.syncers = append(s.syncers, r)
	}
	return errors.Join(faults...)
}

// apart refuses folders of which one is in another: what fastsync keeps would be
// shipped or deleted, and one target's sweep would delete what is another's.
func (s *service) apart() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.cfg.Redis == "" && rsyncer.Local(s.cfg.Source) && rsyncer.Within(s.cfg.StateDir, s.cfg.Source) {
		fault("--state-dir %s is inside the source: what it holds would be shipped; choose a folder outside", s.cfg.StateDir)
	}
	for i, t := range s.targets {
		if s.cfg.Redis == "" && rsyncer.Local(t.Dest) && rsyncer.Within(s.cfg.StateDir, t.Dest) {
			fault("--state-dir %s is inside the target %s, whose sweeps would delete it; choose a folder outside", s.cfg.StateDir, t.Name)
		}
		for _, other := range s.targets[:i] {
			local := rsyncer.Local(t.Dest) && rsyncer.Local(other.Dest)
			if strings.TrimRight(t.Dest, "/") == strings.TrimRight(other.Dest, "/") || local && (rsyncer.Within(t.Dest, other.Dest) || rsyncer.Within(other.Dest, t.Dest)) {
				fault("targets %s and %s share a folder, so that each would undo the other: give each a folder of its own", other.Name, t.Name)
			}
		}
	}
	return errors.Join(faults...)
}

func (s *service) prepareRedis() error {
	url := s.cfg.Redis
	if url == "" {
		if !s.agent || !s.subscribers {
			return errors.New("--redis is missing: agent and subscribe share a Redis; give its URL, as redis://host:6379")
		}
		server, err := redisserver.New(redisserver.Config{Dir: s.cfg.StateDir, Listen: s.cfg.RedisListen, Log: s.log})
		if err != nil {
			return err
		}
		if err := server.Check(); err != nil {
			return err
		}
		s.server, url = server, server.URL()
	}
	var err error
	s.redis, err = openRedis(url)
	return err
}

// run starts the parts and waits for all of them. The managed redis-server
// ends last, so that the parts can put their last words into it.
func (s *service) run(ctx context.Context) error {
	defer func() { _ = s.redis.Close() }()
	if s.server == nil {
		if !awaitRedis(ctx, s.redis, redacted(s.cfg.Redis), s.log) {
			return nil
		}
		if err := s.leaveURL(passwordless(s.cfg.Redis)); err != nil {
			s.log.Debug().Err(err).Msg("the other subcommands need --redis")
		}
		return s.runParts(ctx)
	}
	server, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.server.Run(server) }()
	var err error
	select {
	case <-s.server.Ready():
		if err = s.leaveURL(s.server.URL()); err == nil {
			err = s.runParts(ctx)
		}
	case <-ctx.Done():
	case err = <-ended:
		ended <- nil
	}
	stop()
	return errors.Join(err, <-ended)
}

// leaveURL lets the other subcommands find this Redis.
func (s *service) leaveURL(url string) error {
	if err := os.MkdirAll(s.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make --state-dir: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.cfg.StateDir, "url"), []byte(url+"\n"), 0o600); err != nil {
		return fmt.Errorf("write into --state-dir: %w", err)
	}
	return nil
}

func (s *service) runParts(ctx context.Context) error {
	if s.agent {
		// Before anything can arrive anywhere, so that who publishes next finds the root.
		s.beat(ctx, fastsync.NewKeys(s.cfg.Name), time.Time{}, agentState{
			Heartbeat: time.Now(), Source: s.cfg.Source, Watch: watcher.Status{Mode: s.mode}, Version: ownVersion(), Chosen: s.chosen(""),
		})
	}
	g, ctx := errgroup.WithContext(ctx)
	if s.agent {
		g.Go(func() error { return s.runAgent(ctx) })
	}
	for i, t := range s.targets {
		g.Go(func() error { return s.serve(ctx, t, s.syncers[i]) })
	}
	if s.subscribers {
		s.log.Info().Str("source", s.cfg.Source).Int("targets", len(s.targets)).Str("version", ownVersion()).Msg("fastsync runs")
	}
	err := g.Wait()
	s.log.Info().Msg("fastsync stopped")
	return err
}

// serve runs a target's subscriber, and for as long as that has work to end, what
// its runs share.
func (s *service) serve(ctx context.Context, t target, r *rsyncer.Rsyncer) error {
	kept, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { r.Run(kept) })
	err := s.subscribe(ctx, t, r)
	for errors.Is(err, subscriber.ErrServed) && ctx.Err() == nil {
		err = s.subscribe(ctx, t, r)
	}
	stop()
	running.Wait()
	if errors.Is(err, subscriber.ErrServed) {
		return nil // the end came while the target was handed over
	}
	return err
}

// subscribe serves a target, or stands by, until another process takes it over.
func (s *service) subscribe(ctx context.Context, t target, r *rsyncer.Rsyncer) error {
	sub, err := s.subscriber(t, r)
	if err != nil {
		return err
	}
	return sub.Run(ctx)
}

func (s *service) subscriber(t target, syncer *rsyncer.Rsyncer) (*subscriber.Subscriber, error) {
	url := s.cfg.Redis
	if s.server != nil {
		url = s.server.URL()
	}
	reads, err := openReads(url)
	if err != nil {
		return nil, err
	}
	every := s.every
	if every == 0 {
		every = -time.Second
	}
	unconfined, unlocked := "", ""
	if err := syncer.Unconfined(); err != nil {
		unconfined = err.Error()
	} else if err := syncer.Unlocked(); err != nil {
		unlocked = err.Error()
	}
	return subscriber.New(subscriber.Config{
		Redis: s.redis, Reads: reads, Keys: fastsync.NewKeys(s.cfg.Name), Target: t.Name, Destination: t.Dest, Pair: syncer.Pair(), Unconfined: unconfined, Unlocked: unlocked,
		Syncer: syncer, Delete: s.cfg.Delete, MaxDelete: s.cfg.MaxDelete, Durable: s.server != nil, SweepEvery: every, Log: s.log,
	}), nil
}
