package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SSHD is an sshd with keys of its own.
type SSHD struct {
	Port int
	// Strict has Rsh check the host's key, which it does not on loopback.
	Strict bool

	dir   string
	group *Group
}

// NewSSHD makes keys in dir and starts an sshd that lets them in, with further
// lines in its configuration.
func NewSSHD(ctx context.Context, dir string, conf ...string) (*SSHD, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &SSHD{Port: port, dir: dir}
	for _, key := range []string{"host", "user"} {
		if err := s.MakeKey(ctx, key); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nMaxStartups 100\n", port, dir, dir) + strings.Join(conf, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "sshd"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd as root refuses to start without it
			return nil, err
		}
	}
	return s, s.Start(ctx)
}

// MakeKey makes a key, or makes it anew: "host" or "user".
func (s *SSHD) MakeKey(ctx context.Context, name string) error {
	file := filepath.Join(s.dir, name)
	_ = os.Remove(file)
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a key: %w: %s", err, out)
	}
	return nil
}

// Launch starts it and does not wait.
func (s *SSHD) Launch() error {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	if s.group, err = Start(exec.Command(sshd, "-D", "-f", filepath.Join(s.dir, "sshd"))); err != nil {
		return fmt.Errorf("start an sshd: %w; install openssh-server", err)
	}
	return nil
}

// Start starts it, again if it was ended, and waits until it lets us in.
func (s *SSHD) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	err := Until(ctx, 10*time.Second, 20*time.Millisecond, func() bool { return s.LogsIn(ctx) })
	if err != nil {
		s.group.Kill()
		return fmt.Errorf("log in at an sshd of our own: %w", err)
	}
	return nil
}

// Rsh is the ssh, with its options, that logs in through a port: its own or a proxy's.
func (s *SSHD) Rsh(port int) string {
	unchecked := "yes"
	if s.Strict {
		unchecked = "no"
	}
	return fmt.Sprintf("ssh -F none -i %s/user -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new -o NoHostAuthenticationForLocalhost=%s -o LogLevel=ERROR -p %d", s.dir, s.dir, unchecked, port)
}

// LogsIn tells whether an empty command runs there.
func (s *SSHD) LogsIn(ctx context.Context) bool {
	return exec.CommandContext(ctx, "sh", "-c", s.Rsh(s.Port)+" -o BatchMode=yes 127.0.0.1 true").Run() == nil
}

// Known are the host keys that Rsh has accepted.
func (s *SSHD) Known() string { return filepath.Join(s.dir, "known") }

// Sessions are the processes that serve its logins.
func (s *SSHD) Sessions() []Process {
	var found []Process
	for _, p := range Processes(s.group.Leader) {
		if p.PID != s.group.Leader {
			found = append(found, p)
		}
	}
	return found
}

// Kill ends it with all of its sessions.
func (s *SSHD) Kill() { s.group.Kill() }

// End ends it.
func (s *SSHD) End() {
	if s != nil && s.group != nil {
		s.group.Kill()
	}
}

// Signal sends a signal to it and all of its sessions, as SIGSTOP.
func (s *SSHD) Signal(sig syscall.Signal) { s.group.Signal(sig) }

// Daemon is an rsync daemon with one module.
type Daemon struct {
	Port  int
	conf  string
	group *Group
}

// NewDaemon starts one whose module, called so, is the folder.
func NewDaemon(ctx context.Context, dir, module, folder string) (*Daemon, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	d := &Daemon{Port: port, conf: filepath.Join(dir, "rsyncd.conf")}
	if err := d.Serve(module, folder); err != nil {
		return nil, err
	}
	if d.group, err = Start(exec.Command("rsync", "--daemon", "--no-detach", "--config="+d.conf)); err != nil {
		return nil, err
	}
	return d, Until(ctx, 10*time.Second, 20*time.Millisecond, func() bool {
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
		return err == nil && c.Close() == nil
	})
}

// Serve names its module for connections from now on.
func (d *Daemon) Serve(module, folder string) error {
	ids := ""
	if os.Geteuid() == 0 {
		ids = "uid = 0\ngid = 0\n"
	}
	conf := fmt.Sprintf("port = %d\naddress = 127.0.0.1\nuse chroot = no\nread only = no\nmunge symlinks = no\nlog file = /dev/null\n%s[%s]\npath = %s\n", d.Port, ids, module, folder)
	return os.WriteFile(d.conf, []byte(conf), 0o644)
}

// End ends it.
func (d *Daemon) End() {
	if d != nil && d.group != nil {
		d.group.Kill()
	}
}
