package redisserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// firstLook and lastLook bound the time between two PINGs to a starting child.
	firstLook = 2 * time.Millisecond
	lastLook  = 100 * time.Millisecond
	// leftover is how long a dead child's forks may hold its output open.
	leftover = time.Second
)

// args are the server's options. A value never starts with "--": Redis would
// take it for the next option.
func (s *Server) args() []string {
	args := []string{
		"--port", s.port,
		"--unixsocket", s.socket, "--unixsocketperm", "700",
		"--dir", s.cfg.Dir,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
		"--maxmemory-policy", "noeviction",
		"--protected-mode", "yes",
		"--hz", "1", // ten times a second it has nothing to do but wake up
		"--daemonize", "no", "--supervised", "no",
		// The command line stays as it is, so that a later fastsync knows the
		// child by its state directory.
		"--set-proc-title", "no",
	}
	if s.host != "" {
		args = append(args, "--bind", s.host)
	}
	return args
}

// once runs one child until it dies, which is an error, or ctx ends, which is
// none. It calls up when the child is ready.
func (s *Server) once(ctx context.Context, up func(took time.Duration, pid int)) error {
	said := &tail{log: s.cfg.Log}
	cmd := exec.Command(s.cfg.Binary, s.args()...)
	cmd.Dir = s.cfg.Dir
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = childAttr()
	cmd.WaitDelay = leftover
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.cfg.Binary, err)
	}
	pid := cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer os.Remove(s.pidFile())
	if err := writePID(s.pidFile(), pid); err != nil {
		s.stop(pid, ended)
		return err
	}
	if s.awaitReady(ctx, ended) {
		up(time.Since(began), pid)
	}
	select {
	case <-ctx.Done():
		s.stop(pid, ended)
		return nil
	case err := <-ended:
		killGroup(pid)
		return s.death(err, said)
	}
}

// awaitReady asks until the child answers, ctx ends or the child has died. How
// long that takes is up to the size of the append-only file: there is no limit.
func (s *Server) awaitReady(ctx context.Context, ended chan error) bool {
	look := firstLook
	for {
		if reply := ping(ctx, "unix", s.socket); reply == answerPong {
			return true
		}
		timer := time.NewTimer(look)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case err := <-ended:
			timer.Stop()
			ended <- err // buffered, and once reads it next
			return false
		case <-timer.C:
		}
		look = min(2*look, lastLook)
	}
}

// stop ends the child and what it forked, and returns when it is gone.
func (s *Server) stop(pid int, ended <-chan error) {
	_ = syscall.Kill(pid, syscall.SIGTERM) // not reaped yet or, at worst, gone: ESRCH
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ended:
		killGroup(pid)
	case <-timer.C:
		s.cfg.Log.Warn().Int("pid", pid).Msg("redis-server ignored SIGTERM, killing it")
		killGroup(pid)
		<-ended
	}
}

// killGroup ends the child's process group: a fork that rewrites the
// append-only file must not outlive its parent.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// death words the end of a child that nobody asked to end.
func (s *Server) death(err error, said *tail) error {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		err = errors.New("exit status 0")
	}
	if words := said.words(); words != "" {
		return fmt.Errorf("redis-server in %s ended: %w; its last words: %s", s.cfg.Dir, err, words)
	}
	return fmt.Errorf("redis-server in %s ended: %w", s.cfg.Dir, err)
}
