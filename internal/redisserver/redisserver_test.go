package redisserver

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

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
