package watcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

// inNamespace runs the test again in a mount namespace of its own, and is true in there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mounted) != "" {
		return true
	}
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal("no mount namespaces for root:", err)
		}
		t.Skip("no mount namespaces here")
	}
	rerun(t, []string{"unshare", "-m"}, mounted+"=1")
	return false
}

// rerun runs the test once more, by the command given before it.
func rerun(t *testing.T, by []string, env ...string) {
	t.Helper()
	args := append(append([]string{}, by...), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func mountAt(t *testing.T, kind, source, at, data string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, at, kind, flags, data); errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
}

func TestProbeRefusesOverlay(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := t.TempDir()
	mountAt(t, "tmpfs", "none", top, "", 0) // an overlay cannot have another one as its upper
	for _, dir := range []string{"lower", "upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(top, "root")
	needFanotify(t, root) // tmpfs will do
	mountAt(t, "overlay", "none", root, "lowerdir="+top+"/lower,upperdir="+top+"/upper,workdir="+top+"/work", 0)
	if err := Probe(root, nil); !errors.Is(err, errRefused) || !contains(err, "(overlay)") {
		t.Errorf("Probe = %v, want the overlay to be refused", err)
	}
	// Where inotify may take over, it does; else the start fails.
	r := start(t, root, func(w *Watcher) { byFanotify(w); w.cfg.Fallback = true })
	if s := r.Status(); s.Mode != Fsnotify || s.Fallback == "" {
		t.Errorf("status %+v", s)
	}
	r.write("f")
	r.waitFor(t, "f", fastsync.Entry)
	w, err := New(Config{Root: root, Publisher: newFake(), Mode: Fanotify})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, errRefused) {
		t.Errorf("Run = %v", err)
	}
}

func TestProbeWithoutRights(t *testing.T) {
	const asNobody = "FASTSYNC_TEST_NOBODY"
	if os.Getenv(asNobody) == "" {
		if os.Geteuid() != 0 {
			t.Skip("only root can become another user")
		}
		rerun(t, nil, asNobody+"=1", "TMPDIR=/tmp")
		return
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(65534, 65534, 65534), syscall.Setresuid(65534, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := Probe(t.TempDir(), nil); !errors.Is(err, errRefused) || !contains(err, "CAP_SYS_ADMIN") {
		t.Errorf("Probe = %v, want the missing capability", err)
	}
}

// With the two capabilities and nothing else, so that the kernel does not tell
// whether a file of another user is open: its close is enough.
func TestTwoCapabilitiesAreEnough(t *testing.T) {
	const few = "FASTSYNC_TEST_FEW_RIGHTS"
	root := os.Getenv(few)
	if root == "" {
		needFanotify(t, t.TempDir())
		if _, err := exec.LookPath("setpriv"); err != nil || os.Geteuid() != 0 {
			t.Skip("it takes root and setpriv")
		}
		root = t.TempDir()
		file := filepath.Join(root, "f")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root, 0o777), os.Chmod(file, 0o666)); err != nil {
			t.Fatal(err)
		}
		caps := "-all,+sys_admin,+dac_read_search"
		rerun(t, []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=" + caps, "--ambient-caps=" + caps, "--bounding-set=" + caps}, few+"="+root)
		return
	}
	if err := Probe(root, nil); err != nil {
		t.Fatal(err)
	}
	r := start(t, root, func(w *Watcher) { byFanotify(w); w.cfg.Quiet = 2 * patience })
	f, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
	r.must(err)
	_, err = f.WriteString("x")
	r.must(err)
	r.settle()
	if n := r.count("f"); n != 0 {
		t.Errorf("%d events while it is open", n)
	}
	r.must(f.Close())
	r.waitFor(t, "f", fastsync.Entry)
}

// The root is a folder of the file system, mounted elsewhere once more.
func TestBindMountedRoot(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := t.TempDir()
	for _, dir := range []string{"data/media/d", "data/other", "srv/media"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mountAt(t, "", top+"/data/media", top+"/srv/media", "", unix.MS_BIND)
	g := mark(t, top+"/srv/media")
	g.write(top + "/srv/media/d/here")
	g.write(top + "/data/media/d/there") // the same folder by its other path
	g.write(top + "/data/other/f")
	g.write(top + "/data/media/top")
	g.want("d/here", "d/there", "top")
}

func TestMountBelowTheRoot(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	t.Run("reported", func(t *testing.T) {
		root := t.TempDir()
		r := startFanotify(t, root, nil)
		r.must(os.Mkdir(r.path("m"), 0o700))
		r.settle()
		r.forget()
		mountAt(t, "tmpfs", "none", r.path("m"), "", 0)
		r.waitFor(t, "m", fastsync.Tree)
		eventually(t, "status tells", func() bool { return r.Status().Unwatched == 1 && r.Status().Reason != "" })
		if err := Probe(root, nil); !errors.Is(err, errRefused) || !contains(err, `"m"`) {
			t.Errorf("Probe = %v", err)
		}
		if err := Probe(root, func(p string, _ bool) bool { return p == "m" }); err != nil {
			t.Errorf("Probe refuses a mount that is left out: %v", err)
		}
		r.must(unix.Unmount(r.path("m"), 0))
		eventually(t, "status recovers", func() bool { return r.Status().Unwatched == 0 && r.Status().Reason == "" })
	})
	t.Run("fallback loses nothing", func(t *testing.T) {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "m"), 0o700); err != nil {
			t.Fatal(err)
		}
		h := newHold()
		r := startFanotify(t, root, func(w *Watcher) { w.cfg.Fallback = true; h.in(w) })
		r.write("hold")
		<-h.held
		mountAt(t, "tmpfs", "none", r.path("m"), "", 0)
		r.write("late") // fanotify has it, and nobody reads it any more
		close(h.free)
		r.waitFor(t, "late", fastsync.Entry)
	})
	t.Run("fallback", func(t *testing.T) {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o700); err != nil {
			t.Fatal(err)
		}
		r := startFanotify(t, root, func(w *Watcher) { w.cfg.Fallback = true })
		open, err := os.Create(r.path("a/b/open"))
		r.must(err)
		r.must(os.Mkdir(r.path("m"), 0o700))
		r.settle()
		mountAt(t, "tmpfs", "none", r.path("m"), "", 0)
		r.waitFor(t, "m", fastsync.Tree)
		eventually(t, "inotify takes over", func() bool { s := r.Status(); return s.Mode == Fsnotify && s.Fallback != "" && s.Watched == 4 })
		r.write("m/f")
		r.waitFor(t, "m/f", fastsync.Entry)
		r.write("a/b/f")
		r.waitFor(t, "a/b/f", fastsync.Entry)
		if n := r.count("a/b/open"); n != 0 {
			t.Errorf("%d events of an open file", n)
		}
		r.must(open.Close())
		r.waitFor(t, "a/b/open", fastsync.Entry)
	})
}

// The way to the root is gone, by a rename that its own file system knows
// nothing of: what happens in it now must not look like deletions.
func TestRootIsAwayWithItsDisk(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := t.TempDir()
	root := filepath.Join(top, "above/root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	mountAt(t, "tmpfs", "none", root, "", 0)
	if err := os.Mkdir(filepath.Join(root, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := startFanotify(t, root, nil)
	r.write("d/f")
	r.waitFor(t, "d/f", fastsync.Entry)
	r.settle()
	r.forget()
	r.must(os.Rename(filepath.Join(top, "above"), filepath.Join(top, "moved")))
	eventually(t, "status tells", func() bool { return r.Status().RootError != "" })
	r.must(os.WriteFile(filepath.Join(top, "moved/root/d/f"), []byte("y"), 0o600))
	r.must(os.Rename(filepath.Join(top, "moved"), filepath.Join(top, "above")))
	r.waitFor(t, fastsync.Root, fastsync.Tree)
	r.settle()
	if n := r.count("d/f"); n != 0 {
		t.Errorf("%d events of a file in a root that was away", n)
	}
}

// The same disk is unmounted and mounted again before anybody looks: the root
// looks the same, and the mark is gone.
func TestRemountedRoot(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := t.TempDir()
	root, image := filepath.Join(top, "root"), filepath.Join(top, "image")
	run := func(words ...string) {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%q: %v: %s", words, err, out)
		}
	}
	if err := errors.Join(os.Mkdir(root, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 4<<20)); err != nil {
		t.Fatal(err)
	}
	run("mkfs.ext4", "-q", image)
	run("mount", "-o", "loop", image, root)
	t.Cleanup(func() { _ = exec.Command("umount", "-d", "-l", root).Run() })
	device, err := exec.Command("findmnt", "-n", "-o", "SOURCE", root).Output()
	if err != nil {
		t.Skip(err)
	}
	loop := string(device[:len(device)-1])
	keep, err := os.Open(loop) // so that it stays the same device
	if err != nil {
		t.Skip(err)
	}
	defer keep.Close()
	h := newHold()
	r := startFanotify(t, root, h.in)
	r.write("hold")
	<-h.held
	r.must(unix.Unmount(root, 0))
	r.must(unix.Mount(loop, root, "ext4", 0, ""))
	close(h.free)
	r.waitFor(t, fastsync.Root, fastsync.Tree)
	r.forget()
	r.write("g")
	r.waitFor(t, "g", fastsync.Entry)
}
