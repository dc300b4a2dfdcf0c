package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lab"
)

// portCmd is the script command `port VAR`: a free port of loopback in $VAR.
func portCmd(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strconv.Itoa(freePort(ts)))
}

// sshdCmd is the script command `sshd VAR`: an sshd until the script ends, the
// --rsh for it in $VAR.
func sshdCmd(ts *testscript.TestScript, _ bool, args []string) {
	dir, port := ts.MkAbs("sshd"), freePort(ts)
	ts.Check(os.MkdirAll(dir, 0o700))
	for _, key := range []string{"host", "user"} {
		ts.Check(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).Run())
	}
	conf := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n", port, dir, dir)
	ts.Check(os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	if os.Geteuid() == 0 {
		ts.Check(os.MkdirAll("/run/sshd", 0o755)) // sshd as root refuses to start without it
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	serve(ts, port, sshd, "-D", "-f", filepath.Join(dir, "conf"))
	ts.Setenv(args[0], fmt.Sprintf("ssh -F none -p %d -i %s/user -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new", port, dir, dir))
}

// daemonCmd is the script command `daemon VAR FOLDER`: an rsync daemon until
// the script ends, the URL of its module at FOLDER in $VAR.
func daemonCmd(ts *testscript.TestScript, _ bool, args []string) {
	dir, folder, port := ts.MkAbs("daemon"), ts.MkAbs(args[1]), freePort(ts)
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(os.MkdirAll(folder, 0o755))
	own := ""
	if os.Geteuid() == 0 {
		own = "uid = 0\ngid = 0\n"
	}
	conf := fmt.Sprintf("use chroot = no\n%s[mod]\npath = %s\nread only = no\n", own, folder)
	ts.Check(os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	serve(ts, port, "rsync", "--daemon", "--no-detach", "--address=127.0.0.1", fmt.Sprintf("--port=%d", port), "--config="+filepath.Join(dir, "conf"), "--log-file=/dev/null")
	ts.Setenv(args[0], fmt.Sprintf("rsync://127.0.0.1:%d/mod/", port))
}

func freePort(ts *testscript.TestScript) int {
	port, err := lab.FreePort()
	ts.Check(err)
	return port
}

// serve runs a server until the script ends, and waits until it accepts.
func serve(ts *testscript.TestScript, port int, name string, args ...string) {
	cmd := exec.Command(name, args...)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // a poll, bounded
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

// smallDisk is the script command `smalldisk FOLDER`: a disk of 256 kB there
// until the script ends.
func smallDisk(ts *testscript.TestScript, _ bool, args []string) {
	folder := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(folder, 0o755))
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=256k"); err != nil {
		ts.Fatalf("mount: %v; this script needs root: use [root]", err)
	}
	ts.Defer(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
}
