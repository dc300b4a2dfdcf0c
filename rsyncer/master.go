package rsyncer

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/fastsync/fastsync"
)

// once is one connection, from its login to its end. It returns what ssh said last.
func (s *share) once(ctx context.Context) (said string) {
	_ = os.Remove(s.socket) // of one that was killed
	m := s.login()
	if s.awaitSocket(ctx, m) {
		s.set(up)
		s.keep(ctx, m)
		s.set(resting)
	}
	m.end(s.r.cfg.Grace)
	return m.said
}

// awaitSocket tells whether the connection came up. ssh's own limit is for the
// start of a login; a server may hang after it.
func (s *share) awaitSocket(ctx context.Context, m *master) bool {
	late := time.NewTimer(min(longestLogin, s.r.cfg.Stall))
	defer late.Stop()
	for look := time.Millisecond; ; look = min(2*look, 50*time.Millisecond) {
		if _, err := os.Lstat(s.socket); err == nil {
			return true
		}
		select {
		case <-m.ended:
			return false
		case <-ctx.Done():
			return false
		case <-late.C:
			return false
		case <-time.After(look):
		}
	}
}

// keep returns when the connection has ended, nobody has used it for long, or
// its ssh does not answer: whoever is connected through that waits for ever.
func (s *share) keep(ctx context.Context, m *master) {
	// ssh itself notices a dead peer, within 30 s: this is for one that hangs here.
	beat := min(20*time.Second, s.r.cfg.Stall/3, s.r.limits.idle/3)
	for !s.unused(time.Now()) {
		select {
		case <-m.ended:
			return
		case <-ctx.Done():
			return
		case <-time.After(fastsync.BeatWithin(beat)):
		}
		if !answers(s.socket, max(beat/4, time.Second)) {
			m.kill()
			return
		}
	}
}

// master is the ssh that holds a shared connection.
type master struct {
	pid   int // 0 if it could not be started
	ended chan struct{}
	said  string // its last message; valid once it has ended
}

// login starts an ssh that listens on the socket once it is logged in.
func (s *share) login() *master {
	words := s.r.sshCommand()
	args := append([]string{"-M", "-N", "-T", "-S", s.socket, "-o", "ControlPersist=no",
		"-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no"}, words[1:]...)
	m := &master{ended: make(chan struct{})}
	stderr := &lines{each: func(line string) { m.said = strings.TrimSuffix(line, "\r") }}
	cmd := exec.Command(words[0], args...)
	cmd.Env, cmd.Stderr, cmd.WaitDelay = environment(), stderr, s.r.cfg.Grace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan struct{})
	go func() {
		defer close(m.ended)
		// The kernel ends it with the thread that started it: that one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			m.pid = cmd.Process.Pid
			giveWay(s.lane, m.pid)
		}
		close(started)
		if err != nil {
			m.said = err.Error()
			return
		}
		_ = cmd.Wait()
		m.kill() // a proxy of the operator's may be left
		stderr.flush()
	}()
	<-started
	return m
}

// kill ends it at once, also if it is stopped.
func (m *master) kill() { m.signal(syscall.SIGKILL) }

func (m *master) signal(sig syscall.Signal) {
	if m.pid != 0 { // which would be our own group
		_ = syscall.Kill(-m.pid, sig)
	}
}

// end waits for its end.
func (m *master) end(grace time.Duration) {
	select {
	case <-m.ended: // its number may be another's by now
		return
	default:
		m.signal(syscall.SIGTERM)
	}
	late := time.AfterFunc(grace, m.kill)
	<-m.ended
	late.Stop()
}

// answers tells whether an ssh greets at its socket, as it does whoever connects.
func answers(socket string, patience time.Duration) bool {
	c, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, _ := c.Read(make([]byte, 1))
	return n > 0
}
