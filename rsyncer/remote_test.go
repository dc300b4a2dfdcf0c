package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lab"
)

func freePort(t testing.TB) int {
	t.Helper()
	port, err := lab.FreePort()
	must(t, err)
	return port
}

// serve runs a server until the test ends, and waits until it accepts.
func serve(t testing.TB, port int, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			c.Close()
			return cmd
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

// sshServer starts an sshd of the test's own, with more lines in its
// configuration, and returns the --rsh for it.
func sshServer(t testing.TB, more ...string) string {
	t.Helper()
	rsh, port, conf := sshConf(t, more...)
	serve(t, port, need(t, "sshd"), "-D", "-f", conf)
	return rsh
}

// sshConf is what an sshd of the test's own needs.
func sshConf(t testing.TB, more ...string) (rsh string, port int, conf string) {
	t.Helper()
	need(t, "sshd")
	need(t, "ssh")
	dir, port := t.TempDir(), freePort(t)
	for _, key := range []string{"host", "user"} {
		must(t, exec.Command(need(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).Run())
	}
	conf = fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n", port, dir, dir)
	write(t, dir, "conf", conf+strings.Join(more, "\n")+"\n")
	if os.Geteuid() == 0 {
		must(t, os.MkdirAll("/run/sshd", 0o755)) // sshd as root refuses to start without it
	}
	rsh = fmt.Sprintf("ssh -F none -p %d -i %s/user -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new", port, dir, dir)
	return rsh, port, filepath.Join(dir, "conf")
}

// daemonServer starts an rsync daemon with the module "mod" at folder, with more
// lines in its configuration.
func daemonServer(t testing.TB, folder string, more ...string) string {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	own := ""
	if os.Geteuid() == 0 {
		own = "uid = 0\ngid = 0\n"
	}
	write(t, dir, "conf", fmt.Sprintf("use chroot = no\n%s%s\n[mod]\npath = %s\nread only = no\n[closed]\npath = %s\nread only = yes\n", own, strings.Join(more, "\n"), folder, folder))
	serve(t, port, need(t, "rsync"), "--daemon", "--no-detach", "--address=127.0.0.1", fmt.Sprintf("--port=%d", port), "--config="+filepath.Join(dir, "conf"), "--log-file=/dev/null")
	return fmt.Sprintf("rsync://127.0.0.1:%d/", port)
}

// remotes gives each test a configuration for push or pull by ssh and daemon.
func remotes(t *testing.T, pull bool, test func(*testing.T, Config, string, string)) {
	t.Run("ssh", func(t *testing.T) {
		t.Parallel()
		cfg := setup(t)
		cfg.Delete, cfg.Rsh = true, sshServer(t)
		source, target := cfg.Source, cfg.Target
		if pull {
			cfg.Source = "127.0.0.1:" + source
		} else {
			cfg.Target = "127.0.0.1:" + target
		}
		test(t, cfg, source, target)
	})
	t.Run("daemon", func(t *testing.T) {
		t.Parallel()
		cfg := setup(t)
		cfg.Delete = true
		source, target := cfg.Source, cfg.Target
		if pull {
			cfg.Source = daemonServer(t, source) + "mod"
		} else {
			cfg.Target = daemonServer(t, target) + "mod"
		}
		test(t, cfg, source, target)
	})
}

func TestRemote(t *testing.T) {
	for _, pull := range []bool{false, true} {
		t.Run(fmt.Sprintf("pull=%v", pull), func(t *testing.T) {
			remotes(t, pull, func(t *testing.T, cfg Config, source, target string) {
				write(t, source, "#odd name", "x")
				write(t, source, "d/e/f", "x")
				write(t, target, "stale/x", "x")
				r := open(t, cfg)
				clean(t, ship(t, r, entry("keep", "#odd name", "stale")))
				if read(target, "#odd name") != "x" || read(target, "stale/x") != "missing" {
					t.Error("entries did not ship")
				}
				same(t, compare(t, r, nil), "d tree")
				clean(t, ship(t, r, scoped("d", fastsync.Tree)))
				same(t, compare(t, r, nil))
			})
		})
	}
}

func TestPullFromEmptyRoot(t *testing.T) { // fact 7
	remotes(t, true, func(t *testing.T, cfg Config, source, target string) {
		write(t, target, "keep", "keep")
		must(t, os.Remove(filepath.Join(source, "keep")))
		var run *fastsync.RunError
		if _, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep")); !errors.As(err, &run) || read(target, "keep") != "keep" {
			t.Errorf("%v", err)
		}
	})
}

func TestRefusals(t *testing.T) { // fact 13
	cfg := setup(t)
	server := daemonServer(t, cfg.Target)
	for target, code := range map[string]int{
		server + "closed": 1, server + "unknown": 5, fmt.Sprintf("rsync://127.0.0.1:%d/mod", freePort(t)): 10,
	} {
		cfg.Target = target
		var run *fastsync.RunError
		if _, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep")); !errors.As(err, &run) || run.Code != code {
			t.Errorf("%s: %v", target, err)
		}
	}
	cfg.Rsh, cfg.Target = sshServer(t)+" -i /dev/null -o IdentitiesOnly=yes -o PubkeyAuthentication=no", "127.0.0.1:/x"
	var run *fastsync.RunError
	if _, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep")); !errors.As(err, &run) || run.Code != 255 && run.Code != 12 { // which of the two depends on who ends first
		t.Errorf("ssh without a key: %v", err)
	}
}
