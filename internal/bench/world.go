package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// world is a folder with everything in it, and an sshd to reach it by.
type world struct {
	dir  string
	rsh  string
	port int
	sshd *exec.Cmd
	n    int // tools measured so far
}

// baseline is what the burst costs without any tool watching.
type baseline struct{ write, rsync time.Duration }

func newWorld(ctx context.Context, in string) (*world, error) {
	dir, err := os.MkdirTemp(in, "fastsync-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir}
	if err := w.startSSH(ctx); err != nil {
		w.close()
		return nil, fmt.Errorf("start an sshd: %w; install openssh-server", err)
	}
	return w, nil
}

func (w *world) close() {
	if w.sshd != nil {
		_ = w.sshd.Process.Kill()
		_ = w.sshd.Wait()
	}
	_ = os.RemoveAll(w.dir)
}

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
	conf := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n", w.port, w.dir, w.dir)
	if err := os.WriteFile(filepath.Join(w.dir, "sshd"), []byte(conf), 0o600); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd as root refuses to start without it
			return err
		}
	}
	w.sshd = exec.Command(sshd, "-D", "-f", filepath.Join(w.dir, "sshd"))
	if err := w.sshd.Start(); err != nil {
		return err
	}
	w.rsh = fmt.Sprintf("ssh -F none -p %d -i %s/user -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new", w.port, w.dir, w.dir)
	return until(ctx, 10*time.Second, 20*time.Millisecond, func() bool {
		return exec.CommandContext(ctx, "sh", "-c", w.rsh+" -o BatchMode=yes 127.0.0.1 true").Run() == nil
	})
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

var errLate = errors.New("not in time")

// until looks every so often until done says so; errLate after patience.
func until(ctx context.Context, patience, every time.Duration, done func() bool) error {
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			return errLate
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
	return nil
}

// baseline writes the burst and copies it with one bare rsync, watched as a tool
// is: looking for files and sampling memory take their part of two cores.
func (w *world) baseline(ctx context.Context, s scope) (baseline, error) {
	from, to := filepath.Join(w.dir, "bare", "from"), filepath.Join(w.dir, "bare", "to")
	for _, d := range []string{from, to} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return baseline{}, err
		}
	}
	syscall.Sync() // what the tool before left to be written must not count
	begun := time.Now()
	names, err := writeBurst(from, s)
	if err != nil {
		return baseline{}, err
	}
	b := baseline{write: time.Since(begun)}
	begun = time.Now()
	cmd := exec.CommandContext(ctx, "rsync", "-a", "-e", w.rsh, from+"/", "127.0.0.1:"+to+"/")
	if err := cmd.Start(); err != nil {
		return b, fmt.Errorf("bare rsync: %w", err)
	}
	peak := watchMemory(cmd.Process.Pid)
	for _, name := range names {
		if err := arrive(ctx, filepath.Join(to, name), 10_000, s.patience); err != nil {
			return b, fmt.Errorf("bare rsync: %s: %w", name, err)
		}
	}
	b.rsync = time.Since(begun)
	peak()
	if err := cmd.Wait(); err != nil {
		return b, fmt.Errorf("bare rsync: %w", err)
	}
	err = os.RemoveAll(filepath.Join(w.dir, "bare"))
	syscall.Sync()
	return b, err
}

// writeBurst returns the names it wrote, in order.
func writeBurst(root string, s scope) ([]string, error) {
	data := make([]byte, 10_000)
	var names []string
	for d := range s.dirs {
		dir := fmt.Sprintf("burst-%03d", d)
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return nil, err
		}
		for f := range s.burst / s.dirs {
			name := fmt.Sprintf("%s/f%05d", dir, f)
			if err := os.WriteFile(filepath.Join(root, name), data, 0o644); err != nil {
				return nil, err
			}
			names = append(names, name)
		}
	}
	return names, nil
}

func output(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}
