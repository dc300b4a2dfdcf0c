package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/fastsync/fastsync/internal/lab"
)

const group = "main" // what the Sentinel calls its master

// sentinel watches over r.redis and a replica of it, and makes that the master when
// the first one is gone.
type sentinel struct {
	port    int
	replica *lab.Redis
	process *lab.Group
	client  *redis.SentinelClient
}

func (r *rig) startSentinel(ctx context.Context) (err error) {
	s := &sentinel{}
	if s.replica, err = lab.NewRedis(ctx, r.dir, slices.Concat(r.redisArg, []string{"--replicaof", "127.0.0.1", fmt.Sprint(r.redis.Port)})...); err != nil {
		return err
	}
	r.cleanup(func() { s.replica.End() }) // r.redis ends with the rig, whichever of the two it is
	if s.port, err = lab.FreePort(); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, "sentinel")
	conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nlogfile %s/log\nsentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 3000\n",
		s.port, dir, dir, group, r.redis.Port, group, group)
	file := filepath.Join(dir, "conf")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, []byte(conf), 0o644)); err != nil {
		return err
	}
	if s.process, err = lab.Start(exec.Command("redis-server", file, "--sentinel")); err != nil {
		return err
	}
	r.cleanup(s.process.End)
	s.client = redis.NewSentinelClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	r.cleanup(func() { _ = s.client.Close() })
	r.sentinel = s
	return r.settled(ctx)
}

// url is how clients find the master.
func (s *sentinel) url() string {
	return fmt.Sprintf("redis+sentinel://127.0.0.1:%d?master_name=%s", s.port, group)
}

// settled waits until one follows the other and the Sentinel knows both, and finds
// out which is the master: a Sentinel on a busy machine may change its mind.
func (r *rig) settled(ctx context.Context) error {
	s := r.sentinel
	err := lab.Until(ctx, 30*time.Second, 50*time.Millisecond, func() bool {
		if s.masters(ctx, s.replica) {
			r.redis, s.replica = s.replica, r.redis
		}
		client := s.replica.Client()
		defer func() { _ = client.Close() }()
		state, err := client.Info(ctx, "replication").Result()
		return err == nil && s.knows(ctx, s.replica) &&
			strings.Contains(state, "master_link_status:up") && strings.Contains(state, fmt.Sprint("master_port:", r.redis.Port))
	})
	if err != nil {
		return fmt.Errorf("wait for the replica: %w", err)
	}
	_ = r.client.Close()
	r.client = r.redis.Client()
	return nil
}

// masters tells whether the Sentinel has a Redis as the master.
func (s *sentinel) masters(ctx context.Context, r *lab.Redis) bool {
	at, err := s.client.GetMasterAddrByName(ctx, group).Result()
	return err == nil && net.JoinHostPort(at[0], at[1]) == r.Address()
}

// knows tells whether the Sentinel has a Redis as a replica of the master.
func (s *sentinel) knows(ctx context.Context, r *lab.Redis) bool {
	all, err := s.client.Replicas(ctx, group).Result()
	return err == nil && slices.ContainsFunc(all, func(one map[string]string) bool { return one["port"] == strconv.Itoa(r.Port) })
}

// failOver cuts the replica off, lets the master acknowledge for a while what
// the replica never hears of, and kills it: the replica is the master then.
func failOver(ctx context.Context, r *rig) error {
	s := r.sentinel
	for _, command := range [][]any{{"ACL", "SETUSER", "default", "-psync", "-sync"}, {"CLIENT", "KILL", "TYPE", "replica"}} {
		if err := r.client.Do(ctx, command...).Err(); err != nil {
			return err
		}
	}
	before, err := r.client.XInfoStream(ctx, keys().Events()).Result()
	if err != nil {
		return err
	}
	if err := lab.Pause(ctx, r.random(300*pauseUnit, 2*second)); err != nil {
		return err
	}
	after, err := r.client.XInfoStream(ctx, keys().Events()).Result()
	if err != nil {
		return err
	}
	if after.EntriesAdded == before.EntriesAdded {
		return errors.New("nothing was written to the master, so nothing is lost")
	}
	r.count("acknowledged events lost", int(after.EntriesAdded-before.EntriesAdded))
	r.redis.Kill()
	return lab.Until(ctx, 30*time.Second, 50*time.Millisecond, func() bool { return s.masters(ctx, s.replica) })
}

// failedOver has the old master follow the new one.
func failedOver(ctx context.Context, r *rig) error {
	old := r.redis
	old.Args = slices.Concat(r.redisArg, []string{"--replicaof", "127.0.0.1", fmt.Sprint(r.sentinel.replica.Port)})
	if err := old.Start(ctx); err != nil {
		return err
	}
	return r.settled(ctx)
}
