// Package redistest gives tests a real Redis of their own.
package redistest

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync/internal/redisserver"
)

// Need skips the test where redis-server is not installed, and fails it where
// the variable CI is set.
func Need(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("redis-server")
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// Start runs a redis-server until the test ends, and returns where it listens.
func Start(t *testing.T) *redis.Options {
	t.Helper()
	Need(t)
	server, err := redisserver.New(redisserver.Config{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-server.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	return options
}

// Client returns a client that is closed when the test ends.
func Client(t *testing.T, options *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Cut returns options with which some connections break just before they would send
// a word, so many in all. It is matched as it is written.
func Cut(options *redis.Options, word string, times int) *redis.Options {
	cut := *options
	left := &atomic.Int64{}
	left.Store(int64(times))
	cut.Dialer = func(ctx context.Context, network, at string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, at)
		return &cutting{c, word, left}, err
	}
	return &cut
}

type cutting struct {
	net.Conn
	word string
	left *atomic.Int64
}

func (c *cutting) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(c.word)) && c.left.Add(-1) >= 0 {
		_ = c.Close()
	}
	return c.Conn.Write(b)
}
