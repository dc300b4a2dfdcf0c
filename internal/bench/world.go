package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// world is a folder with everything in it, and the servers by which targets are
// reached. Scenarios run one after the other: nothing of it is locked.
type world struct {
	options
	dir     string
	sshd    *lab.SSHD
	daemon  *lab.Daemon // nil before it is needed
	far     int         // port of the delay proxy, 0 before it is needed
	env     []string
	cleanup []func() // in the order of making
	keep    bool     // folders stay until the end: ext4 is slow for minutes where many files were deleted
	n       int      // folders made so far
}

func newWorld(ctx context.Context, o options) (*world, error) {
	dir, err := os.MkdirTemp(o.dir, "fastsync-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{options: o, dir: dir}
	if err := w.startSSH(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) close() {
	for i := len(w.cleanup) - 1; i >= 0; i-- {
		w.cleanup[i]()
	}
	_ = os.RemoveAll(w.dir)
}

// fresh makes a folder that nobody has used.
func (w *world) fresh() (string, error) {
	w.n++
	at := filepath.Join(w.dir, strconv.Itoa(w.n))
	return at, os.Mkdir(at, 0o755)
}

// remove takes away what a scenario has no use for any more.
func (w *world) remove(folder string) error {
	if w.keep {
		return nil
	}
	return os.RemoveAll(folder)
}

// route is a way to a target.
type route struct {
	rsh  string // for rsync; empty without a remote shell
	host string // what stands before the target's folder
	base string // what to leave out of the folder: a daemon's module begins there
	rest time.Duration
}

func (r route) to(folder string) string { return r.host + folder[len(r.base):] }

// direct is over ssh on loopback.
func (w *world) direct() route { return w.overSSH(w.sshd.Port) }

func (w *world) overSSH(port int) route {
	return route{rsh: w.sshd.Rsh(port), host: "127.0.0.1:", rest: 2 * time.Second}
}

// oneWay is half the round trip of what is far away.
const oneWay = 20 * time.Millisecond

// distant is the same with a round trip of 40 ms.
func (w *world) distant() (route, error) {
	if w.far == 0 {
		p, err := lab.NewProxy(net.JoinHostPort("127.0.0.1", strconv.Itoa(w.sshd.Port)), oneWay)
		if err != nil {
			return route{}, err
		}
		w.far, w.cleanup = p.Port(), append(w.cleanup, p.Close)
	}
	r := w.overSSH(w.far)
	r.rest = 4 * time.Second
	return r, nil
}

func (w *world) module(ctx context.Context) (route, error) {
	if err := w.startDaemon(ctx); err != nil {
		return route{}, err
	}
	return route{host: fmt.Sprintf("rsync://127.0.0.1:%d/bench", w.daemon.Port), base: w.dir, rest: 2 * time.Second}, nil
}

func local() route { return route{rest: 2 * time.Second} }

// rsync runs a bare rsync and tells how long it took.
func (w *world) rsync(ctx context.Context, r route, args ...string) (time.Duration, error) {
	if r.rsh != "" {
		args = append([]string{"-e", r.rsh}, args...)
	}
	begun := time.Now()
	out, err := exec.CommandContext(ctx, "rsync", args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("bare rsync: %w: %s", err, out)
	}
	return time.Since(begun), nil
}
