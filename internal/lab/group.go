package lab

import (
	"os/exec"
	"syscall"
	"time"
)

// Group is a process in a session of its own, with all that it starts.
type Group struct {
	Cmd    *exec.Cmd
	Ended  chan struct{} // closed when the leader has ended
	Leader int
}

// Start makes a session, so that what outlives its parent is found. No thread
// of a program that uses it may end, so that Pdeathsig means the program.
func Start(cmd *exec.Cmd) (*Group, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &Group{Cmd: cmd, Ended: make(chan struct{}), Leader: cmd.Process.Pid}
	go func() { defer close(g.Ended); _ = cmd.Wait() }()
	return g, nil
}

// Over tells whether the leader has ended.
func (g *Group) Over() bool {
	select {
	case <-g.Ended:
		return true
	default:
		return false
	}
}

// End stops the process politely, and what is left of its session by force.
func (g *Group) End() {
	_ = syscall.Kill(-g.Leader, syscall.SIGTERM)
	select {
	case <-g.Ended:
	case <-time.After(15 * time.Second):
		g.Signal(syscall.SIGKILL)
		<-g.Ended
	}
	for end := time.Now().Add(2 * time.Second); len(Processes(g.Leader)) > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	g.Signal(syscall.SIGKILL)
}

// Crash ends the leader alone by SIGKILL, as the kernel's lack of memory does,
// and leaves what it had started to itself.
func (g *Group) Crash() {
	_ = syscall.Kill(g.Leader, syscall.SIGKILL)
	<-g.Ended
}

// Kill ends all of it at once, by force.
func (g *Group) Kill() {
	for range 100 { // what is started meanwhile is found by the next look
		if len(Processes(g.Leader)) == 0 {
			break
		}
		g.Signal(syscall.SIGKILL)
		time.Sleep(10 * time.Millisecond)
	}
	<-g.Ended
}

// Signal sends a signal to all of it.
func (g *Group) Signal(sig syscall.Signal) {
	for _, p := range Processes(g.Leader) {
		_ = syscall.Kill(p.PID, sig)
	}
}
