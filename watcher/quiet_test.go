package watcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

const unprivileged = "FASTSYNC_TEST_UNPRIVILEGED"

// Where the kernel does not tell whether a file is open, since it is another
// user's, it ships once nothing has happened to it for the quiet time. The test
// runs itself again as a user who owns nothing.
func TestAQuietTimeWhereTheKernelRefusesToTell(t *testing.T) {
	root := os.Getenv(unprivileged)
	if root == "" {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a file to another user")
		}
		root = t.TempDir()
		file := filepath.Join(root, "f")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root, 0o777), os.Chmod(file, 0o666)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestAQuietTimeWhereTheKernelRefusesToTell$", "-test.v")
		cmd.Env = append(os.Environ(), unprivileged+"="+root)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(65534, 65534, 65534), syscall.Setresuid(65534, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	const quiet = 300 * time.Millisecond
	r := start(t, root, func(w *Watcher) { w.cfg.Quiet = quiet })
	f, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	var last time.Time
	for begun := time.Now(); time.Since(begun) < 2*quiet; { // a writer that is busy for longer than the quiet time
		last = time.Now()
		_, err := f.WriteString("x")
		r.must(err)
	}
	r.waitFor(t, "f", fastsync.Entry)
	if waited := time.Since(last); waited < quiet {
		t.Errorf("published %v after the last write, want at least %v", waited, quiet)
	}
	if n := r.count("f"); n != 1 {
		t.Errorf("%d events, want one", n)
	}
}
