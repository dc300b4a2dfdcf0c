package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync/subscriber"
)

// redisLog routes go-redis's global log, of which nothing concerns an
// operator: each failed command is reported where it was called.
type redisLog struct{ log zerolog.Logger }

func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug().Msg("redis client: " + fmt.Sprintf(format, v...))
}

// openRedis makes a client; it does not connect.
func openRedis(address string) (redis.UniversalClient, error) {
	return openClient(address, 5*time.Second)
}

// openReads makes one for a subscriber's reads, each of which may wait in Redis.
func openReads(address string) (redis.UniversalClient, error) {
	return openClient(address, subscriber.ReadWait+5*time.Second)
}

const dialPatience, writePatience = 3 * time.Second, 5 * time.Second

// openClient makes a client for one Redis, for the master that Sentinels name
// (redis+sentinel://), or for the node of a cluster (redis+cluster://) that has
// the root's slot.
func openClient(address string, patience time.Duration) (redis.UniversalClient, error) {
	password, err := redisPassword()
	if err != nil {
		return nil, err
	}
	scheme, rest, _ := strings.Cut(address, "://")
	plain, kind, _ := strings.Cut(scheme, "+")
	var client redis.UniversalClient
	switch kind {
	case "":
		client, err = openOne(address, password, patience)
	case "sentinel":
		client, err = openSentinel(plain+"://"+rest, password, patience)
	case "cluster":
		client, err = openCluster(plain+"://"+rest, password, patience)
	default:
		err = fmt.Errorf("unknown scheme %q", scheme)
	}
	if err != nil { // its text may show the password
		return nil, fmt.Errorf("--redis %s cannot be read as a URL; use redis://host:6379, rediss://host:6379, unix:///path/to/redis.sock, redis+sentinel://host:26379?master_name=NAME or redis+cluster://host:6379, with &addr=host:port for more of them", redacted(address))
	}
	return client, nil
}

func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func openOne(address, password string, patience time.Duration) (redis.UniversalClient, error) {
	opt, err := redis.ParseURL(address)
	if err != nil {
		return nil, err
	}
	opt.Password = cmp.Or(password, opt.Password)
	opt.MaintNotificationsConfig, opt.DisableIdentity = noNotifications(), true
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = dialPatience, patience, writePatience
	return redis.NewClient(opt), nil
}

// openSentinel takes the user of the URL for the master; the Sentinels' own
// password comes from the environment.
func openSentinel(address, password string, patience time.Duration) (redis.UniversalClient, error) {
	opt, err := redis.ParseFailoverURL(address)
	if err != nil || opt.MasterName == "" {
		return nil, errors.Join(err, errors.New("no master_name"))
	}
	opt.Username, opt.Password = opt.SentinelUsername, cmp.Or(password, opt.SentinelPassword)
	opt.SentinelUsername, opt.SentinelPassword = "", os.Getenv("FASTSYNC_REDIS_SENTINEL_PASSWORD")
	opt.DisableIdentity = true
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = dialPatience, patience, writePatience
	return redis.NewFailoverClient(opt), nil
}

func openCluster(address, password string, patience time.Duration) (redis.UniversalClient, error) {
	opt, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, err
	}
	opt.Password = cmp.Or(password, opt.Password)
	opt.MaintNotificationsConfig, opt.DisableIdentity = noNotifications(), true
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = dialPatience, patience, writePatience
	return redis.NewClusterClient(opt), nil
}

// awaitRedis returns true once Redis serves, and says what it waits for; false
// when ctx ends first.
func awaitRedis(ctx context.Context, client redis.UniversalClient, address string, log zerolog.Logger) bool {
	last := ""
	for ctx.Err() == nil {
		err := client.Ping(ctx).Err()
		if err == nil {
			if last != "" {
				log.Info().Msg("recovered: redis answers")
			}
			return true
		}
		if ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			log.Error().Err(err).Str("redis", address).Msg("cannot reach redis; start it or correct --redis, waiting until it answers")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return false
}

func redisPassword() (string, error) {
	if file := os.Getenv("FASTSYNC_REDIS_PASSWORD_FILE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read FASTSYNC_REDIS_PASSWORD_FILE: %w", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	return os.Getenv("FASTSYNC_REDIS_PASSWORD"), nil
}

// connect finds the Redis that a running fastsync uses, for the subcommands.
func (c *config) connect(ctx context.Context) (redis.UniversalClient, error) {
	address := c.Redis
	if address == "" {
		text, err := os.ReadFile(filepath.Join(c.StateDir, "url"))
		if err != nil {
			return nil, errors.New("no running fastsync found in --state-dir " + c.StateDir + "; start `fastsync run`, or give --redis or --state-dir as it was given there")
		}
		address = strings.TrimSpace(string(text))
	}
	redis.SetLogger(redisLog{newLogger(c.LogFormat)})
	client, err := openRedis(address)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("redis at %s does not answer: %w; is fastsync running?", redacted(address), err), client.Close())
	}
	return client, nil
}

// hasPassword tells whether a URL of Redis carries one.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return strings.Contains(text, "@")
	}
	_, has := u.User.Password()
	return has
}

// passwordless is a URL of Redis without the password that it may carry.
func passwordless(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return redacted(text)
	}
	if _, has := u.User.Password(); has {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}

// redacted takes the password out of a URL.
func redacted(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if at := strings.LastIndex(rest, "@"); ok && at >= 0 { // a password may have an @ of its own
		return scheme + "://…" + rest[at:]
	}
	return address
}
