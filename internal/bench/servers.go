package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync/internal/lab"
	"github.com/fastsync/fastsync/internal/redisserver"
)

func (w *world) startSSH(ctx context.Context) (err error) {
	if w.sshd, err = lab.NewSSHD(ctx, w.dir); err == nil {
		w.cleanup = append(w.cleanup, w.sshd.End)
	}
	return err
}

// logins are how many are timed.
const logins = 5

// login is how long one takes here, of which a shell's start-up files are a part
// that differs from machine to machine: in ms, NaN if none succeeds.
func (w *world) login(ctx context.Context) float64 {
	var took []time.Duration
	for range logins {
		if begun := time.Now(); w.sshd.LogsIn(ctx) {
			took = append(took, time.Since(begun))
		}
	}
	return quantile(took, 0.5)
}

func (w *world) startDaemon(ctx context.Context) error {
	if w.daemon != nil {
		return nil
	}
	daemon, err := lab.NewDaemon(ctx, w.dir, "bench", w.dir)
	if err == nil {
		w.daemon, w.cleanup = daemon, append(w.cleanup, daemon.End)
	}
	return err
}

// redis runs a redis-server until stop is called.
func (w *world) redis(ctx context.Context) (url string, stop func(), err error) {
	dir, err := w.fresh()
	if err != nil {
		return "", nil, err
	}
	server, err := redisserver.New(redisserver.Config{Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop = func() { cancel(); <-ended; _ = os.RemoveAll(dir) }
	select {
	case <-server.Ready():
		return server.URL(), stop, nil
	case err := <-ended:
		ended <- nil
		stop()
		return "", nil, fmt.Errorf("start a redis-server: %w", err)
	}
}
