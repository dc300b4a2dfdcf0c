package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// eventually fails unless the condition holds within 10 s.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	within(t, 10*time.Second, what, holds)
}

func within(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// gate of a test: while it is shut no new rsync starts, so that what ships was
// started before.
type turnstile struct{ dir string }

// watched puts a turnstile in front of rsync.
func watched(t testing.TB, cfg *Config) turnstile {
	s := turnstile{t.TempDir()}
	cfg.RsyncPath = script(t, `if [ -e `+s.dir+`/shut ]; then echo no >> `+s.dir+`/refused; exit 99; fi; echo $$ >> `+s.dir+`/started; exec rsync "$@"`)
	return s
}

func (s turnstile) shut(t testing.TB) { write(t, s.dir, "shut", "") }
func (s turnstile) open()             { os.Remove(filepath.Join(s.dir, "shut")) }
func (s turnstile) started() int {
	text, _ := os.ReadFile(filepath.Join(s.dir, "started"))
	return strings.Count(string(text), "\n")
}

// running keeps rsyncs ready until the test ends.
func running(t testing.TB, r *Rsyncer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { r.Run(ctx) })
	stop = func() { cancel(); wait.Wait() }
	t.Cleanup(stop)
	return stop
}

// waiting are the ids of those that are ready: each has logged in and is in the root.
func waiting(r *Rsyncer) (pids []int) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for _, procs := range r.pool.idle {
		for _, p := range procs {
			at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", p.pid))
			if p.alive() && err == nil && (r.pull || os.SameFile(at, r.root)) {
				pids = append(pids, p.pid)
			}
		}
	}
	return pids
}

func ready(t testing.TB, r *Rsyncer, n int) (pids []int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d rsyncs are ready", n), func() bool { pids = waiting(r); return len(pids) == n })
	return pids
}

// inReserve are those that wait, ready or not.
func inReserve(r *Rsyncer) (n int) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for _, procs := range r.pool.idle {
		n += len(procs)
	}
	return n
}

// arrives ships a new file and fails unless it is at the target at once.
func arrives(t testing.TB, r *Rsyncer, source, target, name string) {
	t.Helper()
	write(t, source, name, name)
	clean(t, whole(t, r, fastsync.Live, name))
	if read(target, name) != name {
		t.Fatalf("%s did not arrive", name)
	}
}

// whole ships a file of now. Another test's child may have it open for writing for
// a moment, between its fork and its exec.
func whole(t testing.TB, r *Rsyncer, lane fastsync.Lane, name string) (out fastsync.Outcome) {
	t.Helper()
	eventually(t, name+" is whole", func() bool {
		var err error
		out, err = r.Sync(context.Background(), lane, entry(name))
		if err != nil {
			t.Error(err)
		}
		return len(out.Again) == 0
	})
	return out
}

func signal(t testing.TB, sig syscall.Signal, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

// processes are those whose parent is one of ours, with their command lines.
func processes(parent int) map[int]string {
	found := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
	}
	return found
}

// masterOf is the id of the ssh that holds a lane's connection, 0 for none.
func masterOf(r *Rsyncer, lane fastsync.Lane) int {
	if r.shared(lane) == "" {
		return 0
	}
	for pid, line := range processes(os.Getpid()) {
		if strings.Contains(line, " -M ") && strings.Contains(line, r.shares[lane].socket) {
			return pid
		}
	}
	return 0
}

// link is a line to a server, which a test can cut, or let swallow everything.
type link struct {
	listener net.Listener
	to       string
	accepted atomic.Int64
	mu       sync.Mutex // of what the test and the line's goroutines share
	down     bool
	conns    []net.Conn
	holes    []*atomic.Bool
	wait     sync.WaitGroup
}

func newLink(t testing.TB, port int) (l *link, own int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l = &link{listener: listener, to: fmt.Sprintf("127.0.0.1:%d", port)}
	l.wait.Go(l.serve)
	t.Cleanup(func() {
		listener.Close()
		l.cut(true)
		l.wait.Wait()
	})
	return l, listener.Addr().(*net.TCPAddr).Port
}

func (l *link) serve() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.accepted.Add(1)
		l.mu.Lock()
		out, err := net.Dial("tcp", l.to)
		if l.down || err != nil {
			in.Close()
			if err == nil {
				out.Close()
			}
		} else {
			hole := &atomic.Bool{}
			l.conns, l.holes = append(l.conns, in, out), append(l.holes, hole)
			l.wait.Go(func() { pour(in, out, hole) })
			l.wait.Go(func() { pour(out, in, hole) })
		}
		l.mu.Unlock()
	}
}

func pour(to, from net.Conn, hole *atomic.Bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !hole.Load() {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			if !hole.Load() || !errors.Is(err, io.EOF) {
				to.Close()
				from.Close()
			}
			return
		}
	}
}

// cut ends all connections, and hangs up on new ones while down.
func (l *link) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for _, c := range l.conns {
		c.Close()
	}
	l.conns, l.holes = nil, nil
}

// swallow makes black holes of the connections of now.
func (l *link) swallow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.holes {
		h.Store(true)
	}
}
