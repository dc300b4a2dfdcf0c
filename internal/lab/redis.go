package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis is a redis-server that may be killed and started again on its port
// and folder.
type Redis struct {
	Port int
	// Args are what the next start gives it beside its port and folder.
	Args  []string
	dir   string
	group *Group
}

// NewRedis starts one in a folder of its own below dir.
func NewRedis(ctx context.Context, dir string, args ...string) (*Redis, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	r := &Redis{Port: port, Args: args, dir: filepath.Join(dir, "redis-"+strconv.Itoa(port))}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	return r, r.Start(ctx)
}

// Address is where it listens.
func (r *Redis) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port)) }

// Launch starts it and does not wait until it answers.
func (r *Redis) Launch() error {
	args := append([]string{"--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--dir", r.dir, "--logfile", filepath.Join(r.dir, "log")}, r.Args...)
	var err error
	r.group, err = Start(exec.Command("redis-server", args...))
	return err
}

// Start starts it and waits until it answers.
func (r *Redis) Start(ctx context.Context) error {
	if err := r.Launch(); err != nil {
		return err
	}
	client := r.Client()
	defer func() { _ = client.Close() }()
	own := fmt.Sprintf("process_id:%d\r\n", r.group.Leader) // not another that was quicker to have the port
	err := Until(ctx, 10*time.Second, 20*time.Millisecond, func() bool {
		return r.group.Over() || client.Ping(ctx).Err() == nil && strings.Contains(client.Info(ctx, "server").Val(), own)
	})
	if err == nil && r.group.Over() {
		err = errors.New("it has ended")
	}
	if err != nil {
		return fmt.Errorf("start a redis-server, which says why in %s/log: %w", r.dir, err)
	}
	return nil
}

// Kill ends it as a crash would.
func (r *Redis) Kill() { r.group.Kill() }

// Signal sends a signal, as SIGSTOP.
func (r *Redis) Signal(sig syscall.Signal) { _ = syscall.Kill(r.group.Leader, sig) }

// End ends it.
func (r *Redis) End() {
	if r != nil && r.group != nil {
		r.group.Kill()
	}
}

// Client is a client of it that tries nothing twice. The caller closes it.
func (r *Redis) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: r.Address(), MaxRetries: -1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}
