package redisserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
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
