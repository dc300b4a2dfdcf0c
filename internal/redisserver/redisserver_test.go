package redisserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"
)

// parentDir makes the test binary run a server there instead of the tests, so
// that a test can kill a whole fastsync.
const parentDir = "REDISSERVER_TEST_PARENT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentDir); dir != "" {
		parent(dir, os.Getenv(parentDir+"_LISTEN"))
		return
	}
	goleak.VerifyTestMain(m)
}

func parent(dir, listen string) {
	server, err := New(Config{Dir: dir, Listen: listen})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		<-server.Ready()
		fmt.Println("ready")
	}()
	fmt.Println(server.Run(context.Background()))
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("redis-server is not installed")
	}
	t.Skip("redis-server is not installed")
}

// freeAddress returns a loopback address that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	needRedis(t)
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// start runs server until the test ends or stop is called.
func start(t *testing.T, server *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-server.Ready():
	case err := <-ended:
		stopped = true
		t.Fatalf("ended before it was ready: %v", err)
	}
	return stop
}

func client(t *testing.T, server *Server) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(options)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func pidOf(t *testing.T, server *Server) int {
	t.Helper()
	text, err := os.ReadFile(server.pidFile())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// until asks again and again, for what another process does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(15 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

func add(t *testing.T, c *redis.Client, value string) {
	t.Helper()
	args := &redis.XAddArgs{Stream: "s", Values: []any{"path", value}}
	if err := c.XAdd(t.Context(), args).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestServesOnSocketAndPort(t *testing.T) {
	listen := freeAddress(t)
	dir := filepath.Join(t.TempDir(), "state of 100%")
	server := newServer(t, Config{Dir: dir, Listen: listen})
	if err := server.Check(); err != nil {
		t.Fatal(err)
	}
	stop := start(t, server)
	c := client(t, server)
	add(t, c, "a.jpg")
	if got := ping(t.Context(), "tcp", listen); got != answerPong {
		t.Errorf("ping over TCP: %d", got)
	}
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
		"protected-mode": "yes", "dir": dir, "bind": "127.0.0.1", "unixsocketperm": "700",
	} {
		if got := c.ConfigGet(t.Context(), name).Val()[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v %v", info, err)
	}
	pid := pidOf(t, server)
	stop()
	if !gone(pid) {
		t.Errorf("redis-server %d is still there", pid)
	}
	for _, left := range []string{server.socket, server.pidFile()} {
		if _, err := os.Lstat(left); err == nil {
			t.Errorf("%s was left behind", left)
		}
	}
}

func TestKilledChildComesBackWithItsData(t *testing.T) {
	server := newServer(t, Config{Dir: t.TempDir()})
	start(t, server)
	c := client(t, server)
	for round := range 3 {
		add(t, c, strconv.Itoa(round))
		old := pidOf(t, server)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "all entries are back", func() bool {
			n, err := c.XLen(t.Context(), "s").Result()
			return err == nil && n == int64(round)+1 && gone(old)
		})
	}
}

func TestKilledParentTakesChildAlong(t *testing.T) {
	dir, listen := t.TempDir(), freeAddress(t)
	server := newServer(t, Config{Dir: dir, Listen: listen})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), parentDir+"="+dir, parentDir+"_LISTEN="+listen)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 100)
	n, _ := out.Read(word)
	if string(word[:n]) != "ready\n" {
		t.Errorf("the parent said %q", word[:n])
	}
	if err := server.Check(); err == nil || !strings.Contains(err.Error(), "another fastsync") {
		t.Errorf("beside a running fastsync: %v", err)
	}
	add(t, client(t, server), "a.jpg")
	child := pidOf(t, server)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := server.Check(); err != nil {
		t.Errorf("after the kill: %v", err)
	}
	until(t, "the child is gone", func() bool { return gone(child) || server.oldChild() == 0 })
	start(t, server)
	if n := client(t, server).XLen(t.Context(), "s").Val(); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

func TestCheckNamesWhoListens(t *testing.T) {
	first := newServer(t, Config{Dir: t.TempDir(), Listen: freeAddress(t)})
	start(t, first)
	listen := first.cfg.Listen
	second := newServer(t, Config{Dir: t.TempDir(), Listen: listen})
	want := "a Redis already listens on " + listen + ": use it with --redis redis://" + listen + ", or give another --redis-listen"
	if err := second.Check(); err == nil || err.Error() != want {
		t.Errorf("a Redis: %v", err)
	}
	err := second.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("Run on a taken port: %v", err)
	}
	stranger, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	third := newServer(t, Config{Dir: t.TempDir(), Listen: stranger.Addr().String()})
	if err := third.Check(); err == nil || !strings.Contains(err.Error(), "does not answer as Redis") {
		t.Errorf("a stranger: %v", err)
	}
}

func TestStateDirectoryIsNotShared(t *testing.T) {
	dir := t.TempDir()
	start(t, newServer(t, Config{Dir: dir}))
	second := newServer(t, Config{Dir: dir})
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another fastsync") {
		t.Errorf("got %v", err)
	}
}

func TestLongPathGetsAShortSocket(t *testing.T) {
	runtimeDir := t.TempDir()
	if len(runtimeDir) > 60 {
		runtimeDir = ""
	}
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	server := newServer(t, Config{Dir: filepath.Join(t.TempDir(), strings.Repeat("long/", 30))})
	if len(server.socket) > maxSocket {
		t.Fatalf("%d bytes: %s", len(server.socket), server.socket)
	}
	stop := start(t, server)
	add(t, client(t, server), "a.jpg")
	info, err := os.Stat(filepath.Dir(server.socket))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v %v", info, err)
	}
	stop()
	if _, err := os.Lstat(filepath.Dir(server.socket)); err == nil {
		t.Error("the socket's directory was left behind")
	}
}

func TestRefusesASocketDirectoryOpenToOthers(t *testing.T) {
	base := t.TempDir()
	if len(base) > 60 {
		t.Skip("the temporary directory's own path is too long")
	}
	t.Setenv("XDG_RUNTIME_DIR", base)
	server := newServer(t, Config{Dir: filepath.Join(t.TempDir(), strings.Repeat("long/", 30))})
	if err := os.Symlink(t.TempDir(), filepath.Dir(server.socket)); err != nil {
		t.Fatal(err)
	}
	if err := server.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "private directory") {
		t.Errorf("got %v", err)
	}
}

func TestPidOfAStrangerIsNotWaitedFor(t *testing.T) {
	server := newServer(t, Config{Dir: t.TempDir()})
	if err := writePID(server.pidFile(), os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if pid := server.oldChild(); pid != 0 {
		t.Errorf("took %d for its own", pid)
	}
}

func TestNewReturnsAllFaults(t *testing.T) {
	_, err := New(Config{Binary: "no-such-redis-server", Listen: ":6379"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"apt install redis-server", "--redis redis://", "--state-dir", "--redis-listen"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestTailKeepsTheLastWords(t *testing.T) {
	said := &tail{}
	fmt.Fprint(said, "one\ntw")
	fmt.Fprint(said, "o\n\n1:M 01 Jan 2026 00:00:00.000 # Fatal: no\n4\n")
	if got := said.words(); got != "two / Fatal: no / 4" {
		t.Errorf("got %q", got)
	}
	_, _ = said.Write(bytes.Repeat([]byte("x"), 1<<20))
	if len(said.part) > tailLine {
		t.Errorf("kept %d bytes", len(said.part))
	}
}
