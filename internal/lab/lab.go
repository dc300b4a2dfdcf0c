// Package lab has the real servers that benchmarks and fault injection run
// fastsync against, on loopback: an sshd, an rsync daemon, a redis-server, a
// proxy that does what networks do, and a look at processes and their memory.
//
// Whatever it starts ends with the program that uses it.
package lab

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// ErrLate is of something that did not happen in time.
var ErrLate = errors.New("it did not happen in time")

// FreePort is a port of loopback that nobody listened on a moment ago, and that
// Linux gives to no connection by itself, so that a server which is ended and started
// again finds it free. By chance, since several labs may look for one at a time.
func FreePort() (port int, err error) {
	for range 100 {
		port = 10_000 + rand.IntN(22_000) // connections get 32768 and more
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// Until looks every so often until done says so; [ErrLate] after patience.
func Until(ctx context.Context, patience, every time.Duration, done func() bool) error {
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			return ErrLate
		}
		if err := Pause(ctx, every); err != nil {
			return err
		}
	}
	return nil
}

// Pause waits; its only error is that of ctx.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
