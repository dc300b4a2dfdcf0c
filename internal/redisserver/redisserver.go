// Package redisserver runs the redis-server that fastsync brings up for an
// operator who gave no --redis: a supervised child with an append-only file.
//
// It promises that what Redis acknowledged is on disk within a second, that a
// child that dies comes back with its data, that no two servers ever write the
// same state directory, and that no child outlives fastsync. It does not
// install, upgrade or configure a Redis that somebody else runs.
//
// The child is reached by a Unix socket that only its user may open, and, where
// [Config.Listen] asks for it, by TCP, so that the CMS can publish.
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
)

const (
	// grace is how long a child gets between SIGTERM and SIGKILL.
	grace = 5 * time.Second
	// farewell is how long the child of a killed fastsync gets to end by itself.
	farewell = 5 * time.Second
	// steady is how long a child must have lived for its death to count as the first.
	steady = 30 * time.Second
	// firstDelay and lastDelay bound the wait before the next child.
	firstDelay = 100 * time.Millisecond
	lastDelay  = 10 * time.Second
)

// Config says where the server keeps its data and where it listens.
type Config struct {
	// Dir is the state directory: append-only file, socket, lock. Made with mode
	// 0700, and set to it. Required.
	Dir string
	// Listen is the TCP address as host:port. Empty: Unix socket only. Beyond
	// loopback Redis refuses commands, since no password is set (protected mode).
	Listen string
	// Binary is the program to run. Empty: redis-server, looked up in PATH.
	Binary string
	// Log gets one line per start and death, and Redis's own lines at debug. The
	// zero Logger writes nothing.
	Log zerolog.Logger
}

// Server is one managed redis-server. Make it with [New].
type Server struct {
	cfg    Config
	host   string
	port   string
	socket string
	ready  chan struct{}
}

// New looks for the program and checks cfg. It starts nothing and writes
// nothing, and returns all faults at once.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, port: "0", ready: make(chan struct{})}
	return s, errors.Join(s.findBinary(), s.findDir(), s.splitListen())
}

func (s *Server) findBinary() error {
	name := s.cfg.Binary
	if name == "" {
		name = "redis-server"
	}
	// ErrDot is a fault too: what runs must not depend on where fastsync was started.
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("redis-server is not installed: apt install redis-server, "+
			"or use a Redis that runs elsewhere with --redis redis://HOST:6379 (%w)", err)
	}
	s.cfg.Binary = path
	return nil
}

func (s *Server) findDir() error {
	if s.cfg.Dir == "" {
		return errors.New("no state directory for redis-server: give --state-dir DIR")
	}
	dir, err := filepath.Abs(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("find state directory %q: %w", s.cfg.Dir, err)
	}
	s.cfg.Dir = dir
	s.socket, err = socketPath(dir)
	return err
}

func (s *Server) splitListen() error {
	if s.cfg.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil || host == "" {
		return fmt.Errorf("--redis-listen %q: want HOST:PORT, as 127.0.0.1:6379", s.cfg.Listen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("--redis-listen %q: the port must be a number from 1 to 65535", s.cfg.Listen)
	}
	s.host, s.port = host, port
	return nil
}

// Ready is closed when the first child has answered PING, its data loaded.
// Later children do not open it again: clients reconnect by themselves.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run starts the child, keeps one running and blocks until ctx ends, then
// stops it and returns nil. It returns an error when the state directory cannot
// be used or when the first child dies before it was ready; a child that dies
// later is replaced after a growing delay, 0.1 to 10 s. Call it once.
func (s *Server) Run(ctx context.Context) error {
	// The child gets its parent-death signal when the thread that started it
	// ends, so all children are started from this one, which stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	release, err := s.claim(ctx)
	if ctx.Err() != nil && err != nil {
		return nil // stopped while it waited
	}
	if err != nil {
		return err
	}
	defer release()
	return s.supervise(ctx)
}

// supervise is the only user of its state: which failure was logged, how often
// a child died since the last one was ready.
func (s *Server) supervise(ctx context.Context) error {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = firstDelay, lastDelay
	deaths, logged := 0, ""
	up := func(took time.Duration, pid int) {
		line := s.cfg.Log.Info().Str("socket", s.socket).Str("listen", s.cfg.Listen).
			Int("pid", pid).Dur("took", took)
		if deaths == 0 {
			close(s.ready)
			line.Msg("redis-server is up")
			return
		}
		line.Int("deaths", deaths).Msg("redis-server recovered")
		deaths, logged = 0, ""
	}
	for ctx.Err() == nil {
		began := time.Now()
		err := s.once(ctx, up)
		if ctx.Err() != nil {
			break // who stops everything may have told the child too
		}
		if !s.wasReady() {
			return err
		}
		if time.Since(began) > steady {
			delays.Reset()
		}
		deaths++
		if text := err.Error(); text != logged {
			s.cfg.Log.Error().Err(err).Msg("redis-server ended, starting it again")
			logged = text
		}
		pause(ctx, delays.NextBackOff())
	}
	return nil
}

func (s *Server) wasReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
