package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/rs/zerolog"
)

// redisLog routes go-redis's global log, of which nothing concerns an
// operator: each failed command is reported where it was called.
type redisLog struct{ log zerolog.Logger }

func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug().Msg("redis client: " + fmt.Sprintf(format, v...))
}

// openRedis makes a client; it does not connect.
func openRedis(url string) (redis.UniversalClient, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("--redis: %w; use redis://host:6379, rediss://host:6379 or unix:///path/to/redis.sock", err)
	}
	password, err := redisPassword()
	if err != nil {
		return nil, err
	}
	if password != "" {
		opt.Password = password
	}
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = 3*time.Second, 5*time.Second, 5*time.Second
	return redis.NewClient(opt), nil
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
	url := c.Redis
	if url == "" {
		text, err := os.ReadFile(filepath.Join(c.StateDir, "url"))
		if err != nil {
			return nil, errors.New("no running fastsync found in --state-dir " + c.StateDir + "; start `fastsync run`, or give --redis or --state-dir as it was given there")
		}
		url = strings.TrimSpace(string(text))
	}
	client, err := openRedis(url)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("redis at %s does not answer: %w; is fastsync running?", redacted(url), err), client.Close())
	}
	return client, nil
}

// redacted takes the password out of a URL.
func redacted(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if _, host, found := strings.Cut(rest, "@"); ok && found {
		return scheme + "://…@" + host
	}
	return url
}
