package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync/internal/redisserver"
)

func (w *world) startSSH(ctx context.Context) error {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	if w.port, err = freePort(); err != nil {
		return err
	}
	for _, key := range []string{"host", "user"} {
		out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(w.dir, key)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("make a key: %w: %s", err, out)
		}
	}
	conf := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nMaxStartups 100\n", w.port, w.dir, w.dir)
	if err := os.WriteFile(filepath.Join(w.dir, "sshd"), []byte(conf), 0o600); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd as root refuses to start without it
			return err
		}
	}
	if err := w.serve(exec.Command(sshd, "-D", "-f", filepath.Join(w.dir, "sshd"))); err != nil {
		return err
	}
	w.key = fmt.Sprintf("ssh -F none -i %s/user -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new -o NoHostAuthenticationForLocalhost=yes -o LogLevel=ERROR", w.dir, w.dir)
	return until(ctx, 10*time.Second, 20*time.Millisecond, func() bool { return w.logsIn(ctx) })
}

func (w *world) logsIn(ctx context.Context) bool {
	return exec.CommandContext(ctx, "sh", "-c", w.direct().rsh+" -o BatchMode=yes 127.0.0.1 true").Run() == nil
}

// logins are how many are timed.
const logins = 5

// login is how long one takes here, of which a shell's start-up files are a part
// that differs from machine to machine: in ms, NaN if none succeeds.
func (w *world) login(ctx context.Context) float64 {
	var took []time.Duration
	for range logins {
		if begun := time.Now(); w.logsIn(ctx) {
			took = append(took, time.Since(begun))
		}
	}
	return quantile(took, 0.5)
}

func (w *world) startDaemon(ctx context.Context) error {
	if w.daemon != 0 {
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	ids := ""
	if os.Geteuid() == 0 {
		ids = "uid = 0\ngid = 0\n"
	}
	conf := fmt.Sprintf("port = %d\naddress = 127.0.0.1\nuse chroot = no\nread only = no\nmunge symlinks = no\nlog file = /dev/null\n%s[bench]\npath = %s\n", port, ids, w.dir)
	file := filepath.Join(w.dir, "rsyncd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return err
	}
	if err := w.serve(exec.Command("rsync", "--daemon", "--no-detach", "--config="+file)); err != nil {
		return err
	}
	w.daemon = port
	return until(ctx, 10*time.Second, 20*time.Millisecond, func() bool {
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// serve keeps a server until the end of the world.
func (w *world) serve(cmd *exec.Cmd) error {
	g, err := startGroup(cmd)
	if err == nil {
		w.cleanup = append(w.cleanup, g.end)
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

// group is a process in a session of its own, with all that it starts.
type group struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	leader int
}

// startGroup makes a session, so that what outlives its parent is found. No
// thread of this program ends, so Pdeathsig means this program.
func startGroup(cmd *exec.Cmd) (*group, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &group{cmd: cmd, ended: make(chan struct{}), leader: cmd.Process.Pid}
	go func() { defer close(g.ended); _ = cmd.Wait() }()
	return g, nil
}

// end stops the process politely, and what is left of its session by force.
func (g *group) end() {
	_ = syscall.Kill(-g.leader, syscall.SIGTERM)
	select {
	case <-g.ended:
	case <-time.After(15 * time.Second):
		g.kill(processes(g.leader))
		<-g.ended
	}
	left := processes(g.leader)
	for end := time.Now().Add(2 * time.Second); len(left) > 0 && time.Now().Before(end); left = processes(g.leader) {
		time.Sleep(20 * time.Millisecond)
	}
	g.kill(left)
}

func (g *group) kill(list []process) {
	for _, p := range list {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}
