package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	vocabulary "github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lab"
)

// rig is a fastsync at work on a root that changes all the time, with the real
// servers around it, all of its own.
type rig struct {
	binary string
	dir    string
	rng    *rand.Rand

	// What a fault may set before the start.
	way      string   // how the target is reached: "" for a folder, "ssh", "daemon", "pull"
	apart    bool     // agent and subscriber are processes of their own
	managed  bool     // fastsync has a redis-server of its own
	watch    string   // "fsnotify", "fanotify"; "" for auto
	args     []string // further flags
	command  []string // what runs fastsync, as prlimit does
	redisArg []string
	near     bool // Redis without the proxy
	watched  bool // by a Sentinel, with a replica; past the proxy
	targets  int  // 0 means 1
	still    bool // nothing changes but by the fault itself
	plain    bool // files come whole by rename
	single   bool // no file has two names
	slow     bool // a quarter of the changes
	strict   bool // ssh checks the host's key
	stranger bool // fastsync is another user, who cannot give files away
	env      []string
	before   func(r *rig) error // makes folders of its own kind

	root, outside, target, state string

	redis    *lab.Redis
	proxy    *lab.Proxy // between fastsync and Redis
	sshd     *lab.SSHD
	daemon   *lab.Daemon
	sentinel *sentinel
	link     *lab.Proxy // between fastsync and sshd or daemon
	client   *redis.Client

	agent, sub *lab.Group // one and the same unless apart
	log        *os.File

	churn    *churn
	reader   *reader
	canary   canary
	base     bounds
	running  sync.WaitGroup
	quit     context.CancelFunc
	cleanups []func()
	markers  int
	version  int           // of the file that is written over and over
	long     time.Duration // how long what is away stays away
	jumps    time.Time     // when the clock does, if it does

	// What injections have to tell.
	noted  []string
	most   map[string]time.Duration
	peak   int64 // the most memory seen, in bytes; 0 where nobody looked
	counts map[string]int
}

const (
	name   = "media"
	nobody = 65534 // the user of who is a stranger
)

// newRig makes one whose chance comes from a seed; what it is for salts that, so
// that no two faults see the same.
func newRig(binary, dir string, seed uint64, what string) *rig {
	salt := fnv.New64a()
	_, _ = salt.Write([]byte(what))
	return &rig{
		most: map[string]time.Duration{}, counts: map[string]int{},
		binary: binary, dir: dir, rng: rand.New(rand.NewPCG(seed, salt.Sum64())),
		root: filepath.Join(dir, "root"), outside: filepath.Join(dir, "outside"), target: filepath.Join(dir, "target"), state: filepath.Join(dir, "state"),
	}
}

// start makes everything and waits until the target equals the root.
func (r *rig) start(ctx context.Context) (err error) {
	for _, d := range []string{r.root, r.outside, r.target, r.state} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if r.before != nil {
		if err := r.before(r); err != nil {
			return err
		}
	}
	if r.log, err = os.Create(filepath.Join(r.dir, "log")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.root, "keep"), record(r.rng, 10), 0o644); err != nil {
		return err
	}
	if r.canary, err = newCanary(r); err != nil {
		return err
	}
	if err := r.serve(ctx); err != nil {
		return err
	}
	r.churn = newChurn(rand.New(rand.NewPCG(r.rng.Uint64(), 2)), r.root, r.outside)
	r.churn.plain, r.churn.single = r.plain, r.single
	if r.slow {
		r.churn.pace *= 4
	}
	for range 100 {
		r.churn.step()
	}
	if r.stranger {
		if err := filepath.WalkDir(r.root, func(p string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(p, nobody, nobody))
		}); err != nil {
			return err
		}
	}
	if err := r.startAll(); err != nil {
		return err
	}
	if err := r.ready(ctx); err != nil {
		return err
	}
	ctx, r.quit = context.WithCancel(ctx)
	r.reader = &reader{target: r.target}
	r.running.Go(func() { r.reader.run(ctx) })
	if !r.still {
		r.running.Go(func() { r.churn.run(ctx) })
	}
	if err := lab.Pause(ctx, time.Second); err != nil { // so that the baseline is of something at work
		return err
	}
	r.base = r.bounds()
	return nil
}

// serve starts the servers that the way needs.
func (r *rig) serve(ctx context.Context) (err error) {
	if !r.managed {
		if r.redis, err = lab.NewRedis(ctx, r.dir, r.redisArg...); err != nil {
			return err
		}
		if r.proxy, err = lab.NewProxy(r.redis.Address(), 0); err != nil {
			return err
		}
		r.client = r.redis.Client()
	}
	if r.watched {
		if err = r.startSentinel(ctx); err != nil {
			return err
		}
	}
	to := 0
	switch r.way {
	case "ssh", "pull":
		// No start-up files: bash reads them for a command of an sshd only as the
		// first shell, and what is killed in them may leave locks for all others.
		if r.sshd, err = lab.NewSSHD(ctx, r.dir, "SetEnv SHLVL=2"); err != nil {
			return err
		}
		r.sshd.Strict = r.strict
		to = r.sshd.Port
	case "daemon":
		if r.daemon, err = lab.NewDaemon(ctx, r.dir, "mod", r.target); err != nil {
			return err
		}
		to = r.daemon.Port
	}
	if to != 0 {
		r.link, err = lab.NewProxy("127.0.0.1:"+strconv.Itoa(to), 0)
	}
	return err
}

func (r *rig) startAll() error {
	if r.agent == nil {
		if err := r.startAgent(); err != nil {
			return err
		}
	}
	if r.apart && r.sub == nil {
		return r.startSub()
	}
	return nil
}

func (r *rig) startAgent() (err error) {
	args := append([]string{"agent", "--source", r.root}, r.flags()...)
	if !r.apart {
		args = append([]string{"run", "--source", r.root}, append(r.flags(), r.toTarget()...)...)
		if r.managed {
			args = append(args, "--redis-listen", "")
		}
	}
	r.agent, err = r.launch(append(args, r.args...))
	if !r.apart {
		r.sub = r.agent
	}
	return err
}

func (r *rig) startSub() (err error) {
	source := r.root
	if r.way == "pull" {
		source = "127.0.0.1:" + r.root
	}
	r.sub, err = r.launch(append(append([]string{"subscribe", "--source", source}, r.flags()...), append(r.toTarget(), r.args...)...))
	return err
}

func (r *rig) launch(args []string) (*lab.Group, error) {
	all := append(append(r.command[:len(r.command):len(r.command)], r.binary), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stdout, cmd.Stderr = r.log, r.log
	return lab.Start(cmd)
}

// stop ends fastsync as an operator does.
func (r *rig) stop() {
	for _, g := range []*lab.Group{r.agent, r.sub} {
		if g != nil {
			g.End()
		}
	}
	r.agent, r.sub = nil, nil
}

// close ends and removes everything.
func (r *rig) close() {
	if r.quit != nil {
		r.quit()
	}
	r.running.Wait()
	r.stop()
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	for _, p := range []*lab.Proxy{r.proxy, r.link} {
		if p != nil {
			p.Close()
		}
	}
	if r.client != nil {
		_ = r.client.Close()
	}
	r.redis.End()
	r.sshd.End()
	r.daemon.End()
	if r.log != nil {
		r.log.Close()
	}
}

// cleanup is done at the end, the last first.
func (r *rig) cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// quiet holds the churn until the function that it returns is called.
func (r *rig) quiet() (release func()) {
	r.churn.mu.Lock()
	return r.churn.mu.Unlock
}

// mark makes a file whose arrival is looked for.
func (r *rig) mark() (string, error) {
	r.markers++
	p := fmt.Sprintf("keep-%d", r.markers)
	return p, os.WriteFile(filepath.Join(r.root, p), record(r.rng, 5000), 0o644)
}

// arrives waits for a file at the target, and returns how long it took.
func (r *rig) arrives(ctx context.Context, p string, patience time.Duration) (time.Duration, error) {
	want, err := os.ReadFile(filepath.Join(r.root, p))
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	err = lab.Until(ctx, patience, 2*time.Millisecond, func() bool {
		got, err := os.ReadFile(filepath.Join(r.target, p))
		return err == nil && bytes.Equal(got, want)
	})
	if err != nil {
		return 0, fmt.Errorf("%s is not at the target after %s: %w", p, patience, err)
	}
	return time.Since(begun), nil
}

// keys are those of the root.
func keys() vocabulary.Keys { return vocabulary.NewKeys(name) }

// random is between two durations.
func (r *rig) random(from, to time.Duration) time.Duration {
	return from + time.Duration(r.rng.Int64N(int64(to-from)))
}
