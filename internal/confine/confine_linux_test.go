package confine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needLandlock(t testing.TB) {
	if _, err := Version(); err != nil {
		t.Skip(err)
	}
}

// system is what any program needs.
var system = []string{"/bin", "/lib", "/lib64", "/usr", "/etc/ld.so.cache"}

// try runs a shell's command confined, and returns what it says.
func try(t testing.TB, command string, files Files) (string, error) {
	t.Helper()
	files.Read = append(files.Read, system...)
	files.Write = append(files.Write, "/dev/null")
	cmd := exec.Command("sh", "-c", command)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := Start(cmd, files); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	return said.String(), err
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyWhatIsAllowed(t *testing.T) {
	needLandlock(t)
	dir := t.TempDir()
	root, target, secret := filepath.Join(dir, "root"), filepath.Join(dir, "target"), filepath.Join(dir, "secret")
	for _, d := range []string{root, target, filepath.Join(target, "sub")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, secret, "canary")
	write(t, filepath.Join(root, "photo"), "photo")
	if err := os.Symlink(dir, filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	version, _ := Version()
	moves := version >= 2
	files := Files{Read: []string{root, "/not/there"}, Write: []string{target}}
	for command, ok := range map[string]bool{
		"cat " + root + "/photo":                           true,
		"cat " + root + "/out/secret":                      false, // through a link of the root's
		"cat " + secret:                                    false,
		"ls " + dir:                                        false,
		"cat /etc/hostname /etc/passwd":                    false,
		"echo x > " + root + "/photo":                      false,
		"rm " + root + "/photo":                            false,
		"echo x > " + secret:                               false,
		"echo x > " + target + "/new":                      true,
		"echo x > " + target + "/../elsewhere":             false,
		"mkdir " + target + "/d && rm -r " + target + "/d": true,
		"echo x > " + target + "/y && mv " + target + "/y " + target + "/sub/y": moves,
	} {
		if said, err := try(t, command, files); (err == nil) != ok || strings.Contains(said, "canary") {
			t.Errorf("%s: %v, want success %v\n%s", command, err, ok, said)
		}
	}
}

// TestTheStarterStaysFree also on the thread that starts: nothing of this
// process may be confined by it.
func TestTheStarterStaysFree(t *testing.T) {
	needLandlock(t)
	name := filepath.Join(t.TempDir(), "file")
	var all sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			if _, err := try(t, "true", Files{}); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			for range 100 {
				if err := os.WriteFile(name, nil, 0o644); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
		})
	}
	all.Wait()
	if out, err := exec.Command("sh", "-c", "echo x > "+name).CombinedOutput(); err != nil {
		t.Errorf("a program that was started later is confined too: %v: %s", err, out)
	}
}

func TestWhatCannotStart(t *testing.T) {
	needLandlock(t)
	if err := Start(exec.Command("/not/there"), Files{Write: []string{"/dev/null"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkStart(b *testing.B) {
	needLandlock(b)
	files := Files{Read: system}
	for name, start := range map[string]func(*exec.Cmd) error{
		"free":     (*exec.Cmd).Start,
		"confined": func(c *exec.Cmd) error { return Start(c, files) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command("/bin/true")
				if err := start(cmd); err != nil {
					b.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
