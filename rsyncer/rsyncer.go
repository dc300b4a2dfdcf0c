// Package rsyncer ships changes from a root to one target with the system's
// rsync, and compares the two.
//
// It promises that nothing outside the root is read, that each file appears at
// the target at once, that nothing is deleted unless Config.Delete is set, and
// then never from a root that is empty, gone or another directory than at the
// start, and never more per Sync than Config.MaxDelete paths. Every path that
// rsync did not bring over is named in the outcome.
//
// It does not watch, retry, or remember: callers do. A directory that becomes
// a symlink between the look at it and rsync's own open is beyond it; confine
// the process where others may write to the root's directories.
package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/filter"
	"github.com/rs/zerolog"
)

// Config is what an Rsyncer needs.
type Config struct {
	// Source is the root: a folder, or host:path or rsync:// to pull from.
	Source string
	// Target is a folder, host:path, host::module/ or rsync://host/module/.
	Target string
	// Name is the target's name in messages; empty means Target.
	Name string
	// Rsh is the remote shell as rsync takes it; empty means ssh.
	Rsh string
	// Delete lets what is gone from the root be deleted at the target.
	Delete bool
	// MaxDelete is the most paths that one Sync may delete; 0 means 1,000.
	MaxDelete int
	// Filter leaves paths out; nil leaves out nothing.
	Filter *filter.Filter
	// Stall is how long a run may go on without progress; 0 means 60 s.
	Stall time.Duration
	// Grace is how long a run may take to end after SIGTERM; 0 means 2 s.
	Grace time.Duration
	// Warm is how many rsyncs Run keeps started for the next batches; 0 means
	// none, and that each run logs in by itself.
	Warm int
	// Unconfined lets rsync open any file that its user may; else the kernel
	// holds it to the root and the target, where it can.
	Unconfined bool
	// RsyncPath is the local rsync; empty means the one in PATH.
	RsyncPath string
	Log       zerolog.Logger
}

// Rsyncer ships to one target. Its methods may run at the same time. Without
// Run each call logs in by itself.
type Rsyncer struct {
	cfg    Config
	pull   bool
	rsync  string
	source string // as rsync's operand, with a trailing slash
	target string
	root   os.FileInfo // the root as it was at New; nil for pull
	pool   *pool
	shares map[fastsync.Lane]*share // empty where there is no ssh to share
	limits limits                   // usual, but in tests

	neighbours *neighbours
	broke      atomic.Pointer[time.Time] // when a run lost its other end last; nil for never

	channels    *channels
	confinement confinement
}

// New checks the configuration and returns all faults joined. It starts
// nothing, but remembers which directory the root is.
func New(cfg Config) (*Rsyncer, error) {
	r := &Rsyncer{cfg: cfg, pull: remote(cfg.Source), limits: usual,
		neighbours: newNeighbours()}
	r.setDefaults()
	var faults []error
	var err error
	if r.rsync, err = find(r.cfg.RsyncPath); err != nil {
		faults = append(faults, err)
	}
	if r.target, err = operand("target", cfg.Target); err != nil {
		faults = append(faults, err)
	}
	if r.source, err = operand("source", cfg.Source); err != nil {
		faults = append(faults, err)
	} else if !r.pull {
		if r.root, err = os.Stat(r.source); err != nil {
			faults = append(faults, fmt.Errorf("look at the source: %w: create or mount it", err))
		} else if !r.root.IsDir() {
			faults = append(faults, fmt.Errorf("source %q is not a directory: name the root's directory", cfg.Source))
		}
	}
	if err := r.findShell(); err != nil {
		faults = append(faults, err)
	}
	if r.pull && remote(cfg.Target) {
		faults = append(faults, errors.New("source and target are both on other hosts: rsync needs one of them here"))
	}
	if len(faults) == 0 && !r.pull && !remote(cfg.Target) {
		faults = append(faults, apart(r.source, r.target))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	r.pool = newPool(r)
	r.shares = r.newShares()
	r.channels = &channels{r: r, freed: make(chan struct{}, 1)}
	return r, nil
}

// Installed returns an error that says what to do if rsync is not in PATH.
func Installed() error {
	_, err := find("rsync")
	return err
}

func find(name string) (string, error) {
	full, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed, or not in PATH; install it, as with apt install rsync", name)
	}
	return full, nil
}

func (r *Rsyncer) setDefaults() {
	c := &r.cfg
	if c.Name == "" {
		c.Name = c.Target
	}
	if c.MaxDelete <= 0 {
		c.MaxDelete = 1000
	}
	if c.Stall <= 0 {
		c.Stall = 60 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 2 * time.Second
	}
	if c.RsyncPath == "" {
		c.RsyncPath = "rsync"
	}
}

// operand makes of a flag's value what rsync takes it for, always absolute
// where local: a relative name with a colon would be a host.
func operand(what, s string) (string, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("%s is empty: give a folder or host:path", what)
	case strings.HasPrefix(s, "-"):
		return "", fmt.Errorf("%s %q starts with \"-\", as an option would: write ./%s", what, s, s)
	case strings.IndexByte(s, 0) >= 0:
		return "", fmt.Errorf("%s %q contains NUL", what, s)
	case remote(s):
		if strings.HasSuffix(s, "/") || strings.HasSuffix(s, ":") && !strings.HasSuffix(s, "::") {
			return s, nil
		}
		return s + "/", nil
	}
	full, err := filepath.Abs(s)
	if err != nil {
		return "", fmt.Errorf("%s %q: %w", what, s, err)
	}
	return strings.TrimSuffix(full, "/") + "/", nil
}

// findShell looks whether the remote shell is there, if there is to be one.
func (r *Rsyncer) findShell() error {
	words, ok := split(r.shell(connectsIn))
	if !remote(r.farEnd()) || r.direct() || !ok { // rsync itself says what is wrong with its quotes
		return nil
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return fmt.Errorf("the remote shell %s is not installed, or not in PATH; install it, as with apt install openssh-client, or correct --rsh", words[0])
	}
	return nil
}

// Local tells whether rsync takes a destination for a folder of this host.
func Local(dest string) bool { return !remote(dest) }

// Within tells whether a folder is another one or in it, whatever links lead there.
func Within(folder, other string) bool {
	return strings.HasPrefix(absolute(folder)+"/", absolute(other)+"/")
}

func absolute(folder string) string {
	if full, err := filepath.Abs(folder); err == nil {
		folder = full
	}
	return resolve(folder)
}

// Pair names the root and the destination in full.
func (r *Rsyncer) Pair() string { return r.source + " → " + r.target }

// apart returns an error if one of two local folders holds the other.
func apart(source, target string) error {
	switch {
	case Within(target, source):
		return fmt.Errorf("target %q is inside the source %q: choose a folder outside", target, source)
	case Within(source, target):
		return fmt.Errorf("source %q is inside the target %q: choose another target", source, target)
	}
	return nil
}

// resolve follows the symlinks of what already exists of a folder's path.
func resolve(folder string) string {
	rest := ""
	for at := filepath.Clean(folder); ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return strings.TrimSuffix(filepath.Join(real, rest), "/")
		}
		if at == "/" {
			return filepath.Join(at, rest)
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// Run keeps connections and rsyncs ready for Sync until ctx ends, and returns
// when the last of them is gone. It may end while a Sync runs, not before the
// last one is done: its connections would break.
func (r *Rsyncer) Run(ctx context.Context) {
	if r.cfg.Warm <= 0 {
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	if dir, err := r.controlDir(); err != nil {
		r.cfg.Log.Warn().Err(err).Msg("no folder for shared ssh connections; each run logs in by itself")
	} else if dir != "" {
		defer os.RemoveAll(dir)
		for lane, s := range r.shares {
			s.begin(filepath.Join(dir, string(lane)))
			running.Go(func() { s.run(ctx) })
		}
	}
	r.pool.run(ctx)
	running.Wait() // before their folder goes
}
