//go:build linux && (amd64 || arm64)

package readlock

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/fastsync/fastsync/internal/confine"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is one that runs under a lock.
type program struct {
	*exec.Cmd
	refused atomic.Pointer[string]
	wanted  chan string
	served  chan struct{}
	lock    *Lock
	out     *io.PipeReader
}

// start runs a command under a lock on root, and kills it when a writer waits.
func start(t testing.TB, root string, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(args[0], args[1:]...), wanted: make(chan string, 1), served: make(chan struct{})}
	p.Dir = root
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var in *io.PipeWriter
	p.out, in = io.Pipe()
	p.Stdout, p.Stderr = in, in
	all := confine.Files{Write: []string{"/"}}
	err := confine.Start(p.Cmd, all, func() (err error) {
		p.lock, err = Install(root)
		return err
	})
	if err != nil {
		t.Skip(err)
	}
	go func() {
		defer close(p.served)
		p.lock.Serve(Told{
			Refused: func(path string) { p.refused.Store(&path) },
			Wanted: func(path string) {
				p.wanted <- path
				p.kill()
			},
		})
	}()
	go func() {
		in.CloseWithError(p.Wait())
	}()
	t.Cleanup(func() {
		p.kill()
		_, _ = io.Copy(io.Discard, p.out)
		p.lock.Close()
		<-p.served
	})
	return p
}

func (p *program) kill() { _ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }

func (p *program) said() string {
	text, _ := io.ReadAll(p.out)
	return string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func folder(t testing.TB) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "d", "file"), []byte("whole"), 0o644))
	return dir
}

const refused = "No such file"

func TestOnlyWhatNobodyWritesIsRead(t *testing.T) {
	root := folder(t)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("outside"), 0o644))
	for name, c := range map[string]struct {
		open string // for writing
		cat  string
		want string
	}{
		"closed":        {"", "d/file", "whole"},
		"open":          {"d/file", "d/file", refused},
		"by full name":  {"d/file", root + "/d/file", refused},
		"another open":  {"d/other", "d/file", "whole"},
		"outside":       {outside, outside, "outside"},
		"by a link":     {"d/file", "link", refused},
		"not there":     {"", "d/none", "No such file"},
		"a folder":      {"", "d", "Is a directory"},
		"another's dir": {"d/file", "../" + filepath.Base(root) + "/d/file", "whole"}, // out of it and back: not by us
	} {
		t.Run(name, func(t *testing.T) {
			if c.cat == "link" {
				must(t, os.Symlink("d/file", filepath.Join(root, "link")))
			}
			if c.open != "" {
				if !filepath.IsAbs(c.open) {
					c.open = filepath.Join(root, c.open)
				}
				f, err := os.OpenFile(c.open, os.O_WRONLY|os.O_CREATE, 0o644)
				must(t, err)
				defer f.Close()
			}
			p := start(t, root, "cat", c.cat)
			if got := p.said(); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if path := p.refused.Load(); (path != nil) != (c.open != "" && c.want == refused) || path != nil && *path != "d/file" && *path != c.cat {
				t.Errorf("refused %v", path)
			}
		})
	}
}

// slowly reads a file, holds it open and then says what came after.
const slowly = `exec 3<d/file; read -r -n 1 x <&3; echo "$x"; sleep "$0"; cat <&3; exec 3<&-`

// A writer waits until the file is read, whole. A reader that is kept from its turn for
// longer than a writer waits is ended, and is another test's.
func TestAWriterWaitsForTheReader(t *testing.T) {
	for range 20 {
		root := folder(t)
		p := start(t, root, "bash", "-c", slowly, "0.02")
		first := make([]byte, 1)
		_, err := io.ReadFull(p.out, first)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(root, "d/file"), []byte("new"), 0o644)) // truncates
		got := p.said()
		select {
		case <-p.wanted:
			continue
		default:
		}
		if got != "\nhole" {
			t.Errorf("read %q after %q: torn", got, first)
		}
		return
	}
	t.Error("no reader had its turn within the time that a writer waits")
}

// A writer does not wait for a slow reader: that is to be ended, and has nothing
// of the writer's until then.
func TestAWriterDoesNotWaitLong(t *testing.T) {
	root := folder(t)
	p := start(t, root, "bash", "-c", slowly, "600")
	_, err := io.ReadFull(p.out, make([]byte, 1))
	must(t, err)
	begun := time.Now()
	must(t, os.WriteFile(filepath.Join(root, "d/file"), []byte("new"), 0o644))
	if took := time.Since(begun); took > 5*time.Second { // the kernel's own patience is 45 s
		t.Errorf("the writer waited for %s", took)
	}
	if path := <-p.wanted; path != "d/file" {
		t.Errorf("wanted %q", path)
	}
}

// names are kept from the collector.
var names [][]byte

// asking is what this process would ask to open a file.
func asking(at int32, name string) notification {
	text := append([]byte(name), 0)
	names = append(names, text)
	return notification{
		pid: uint32(os.Getpid()), call: unix.SYS_OPENAT,
		arguing: [6]uint64{uint64(at), uint64(uintptr(unsafe.Pointer(&text[0])))},
	}
}

// What is not there when it is looked for is not for the program to try again by
// itself: its writer may just make it.
func TestWhatIsNotThereIsNotLeftToTheProgram(t *testing.T) {
	root := folder(t)
	l := &Lock{root: root, pids: map[int]int{}}
	_, _, err := l.open(asking(unix.AT_FDCWD, filepath.Join(root, "d/none")))
	if err != cannot(unix.ENOENT) { //nolint:errorlint // just this
		t.Errorf("got %v", err)
	}
}

// leaving lets this process have so many more descriptors while it does something.
func leaving(t *testing.T, more int, do func()) {
	t.Helper()
	next, err := unix.Dup(0)
	must(t, err)
	must(t, unix.Close(next))
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = uint64(next + more)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	defer func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }()
	do()
}

// Where there is no descriptor to have a lease with, the program may have one, and
// would read without. What is not of the root is left to it.
func TestWithoutDescriptorsNothingIsReadUnlocked(t *testing.T) {
	root := folder(t)
	t.Chdir(root)
	dir, err := os.Open(filepath.Join(root, "d"))
	must(t, err)
	defer dir.Close()
	for name, n := range map[string]notification{
		"by full name": asking(unix.AT_FDCWD, filepath.Join(root, "d/file")),
		"from here":    asking(unix.AT_FDCWD, "d/file"),
		"from a dir":   asking(int32(dir.Fd()), "file"),
	} {
		for more := range 2 {
			l := &Lock{root: root, pids: map[int]int{}}
			var p string
			leaving(t, more, func() { _, p, err = l.open(n) })
			if !errors.Is(err, errBusy) || p != "d/file" {
				t.Errorf("%s, with %d more: %q, %v", name, more, p, err)
			}
			for _, fd := range l.pids {
				must(t, unix.Close(fd))
			}
		}
	}
	outside := asking(unix.AT_FDCWD, filepath.Join(t.TempDir(), "outside"))
	leaving(t, 0, func() { _, _, err = (&Lock{root: root}).open(outside) })
	if failed := cannot(0); err == nil || errors.Is(err, errBusy) || errors.As(err, &failed) {
		t.Errorf("outside: %v", err)
	}
}

// Nor is it known then that the program has closed its file.
func TestWithoutDescriptorsAFileStaysOpen(t *testing.T) {
	f, err := os.Open(filepath.Join(folder(t), "d/file"))
	must(t, err)
	defer f.Close()
	var stat unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &stat))
	wanted := ""
	l := &Lock{
		pids:    map[int]int{},
		reading: &reading{os.Getpid(), int(f.Fd()), uint64(stat.Dev), stat.Ino, "d/file"}, //nolint:unconvert // int32 elsewhere
		told:    Told{Wanted: func(path string) { wanted = path }},
	}
	leaving(t, 0, l.look)
	if l.reading == nil || time.Until(l.due) <= 0 {
		t.Fatal("it is not looked at again")
	}
	l.look() // the lease is gone, as when a writer waits
	if wanted != "d/file" {
		t.Error("a writer waits for ever")
	}
	for _, fd := range l.pids {
		must(t, unix.Close(fd))
	}
}

// A lease of another program's, as Samba's, keeps the file for a moment.
func TestAFileThatAnotherProgramHasALeaseOnIsBusy(t *testing.T) {
	root := folder(t)
	file := filepath.Join(root, "d/file")
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip(err)
	}
	_, name, err := (&Lock{root: root}).open(asking(unix.AT_FDCWD, file))
	if !errors.Is(err, errBusy) || name != "d/file" {
		t.Errorf("%q, %v", name, err)
	}
}

// Nobody ever reads half of a file, be it rewritten in place or made anew where
// none was, and whatever signals come in between.
func TestNothingTornIsRead(t *testing.T) {
	root := folder(t)
	file, half := filepath.Join(root, "d/file"), strings.Repeat("x", 100)
	must(t, os.WriteFile(file, []byte(half+half+"\n"), 0o644))
	p := start(t, root, "sh", "-c", `for i in $(seq 1000); do x=$(cat d/file) && echo "$x"; done 2>/dev/null`)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i%2 == 0 {
				_ = os.Remove(file)
				time.Sleep(50 * time.Microsecond)
			}
			f, err := os.Create(file)
			must(t, err)
			_, _ = f.WriteString(half)
			time.Sleep(50 * time.Microsecond)
			_, _ = f.WriteString(half + "\n")
			f.Close()
			time.Sleep(50 * time.Microsecond)
		}
	})
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Microsecond):
			}
			threads, _ := os.ReadDir("/proc/self/task")
			for _, thread := range threads {
				if id, err := strconv.Atoi(thread.Name()); err == nil {
					_ = unix.Tgkill(os.Getpid(), id, unix.SIGURG) // as the runtime does
				}
			}
		}
	})
	whole := 0
	for line := range strings.Lines(p.said()) {
		if line != half+half+"\n" {
			t.Fatalf("read %q", line)
		}
		whole++
	}
	close(stop)
	writing.Wait()
	if whole < 10 {
		t.Errorf("only %d times read at all", whole)
	}
}

// A program that is killed while it asks leaves nothing behind.
func TestKilledWhileItReads(t *testing.T) {
	root := folder(t)
	for range 20 {
		p := start(t, root, "sh", "-c", "while true; do read -r x <d/file; done")
		time.Sleep(5 * time.Millisecond)
		p.kill()
		_ = p.said()
		must(t, os.WriteFile(filepath.Join(root, "d/file"), []byte("whole\n"), 0o644)) // nobody's lease is left
	}
}

func BenchmarkOpen(b *testing.B) {
	root := folder(b)
	p := start(b, root, "sh", "-c", "i=0; while [ $i -lt $0 ]; do exec 3<d/file; i=$((i+1)); done", "100000")
	for b.Loop() {
		_ = p.said()
	}
}

// A signal that comes while the kernel looks whether somebody asks makes it say that
// something is wrong. Only where it says that nobody is left is nobody listened to.
func TestOnlyAnEndEndsIt(t *testing.T) {
	var l Lock
	for events, alone := range map[int16]bool{unix.POLLERR: false, unix.POLLHUP: true} {
		l.alone = false
		if l.attend(events); l.alone != alone {
			t.Errorf("events %x: nobody is left: %v", events, l.alone)
		}
	}
}
