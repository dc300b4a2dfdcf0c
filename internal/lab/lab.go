// Package lab has the real servers that benchmarks and fault injection run
// fastsync against, on loopback: an sshd, an rsync daemon, a redis-server, a
// proxy that does what networks do, and a look at processes and their memory.
//
// Whatever it starts ends with the program that uses it.
package lab

import (
	"context"
	"errors"
	"net"
	"time"
)

// ErrLate is of something that did not happen in time.
var ErrLate = errors.New("it did not happen in time")

// FreePort is a port of loopback that nobody listened on a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
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
