package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastsync/fastsync"
)

// share is one ssh connection that all runs of a lane use: a login takes ten
// times as long as one more session. Without it ssh logs in for each run.
type share struct {
	r      *Rsyncer
	lane   fastsync.Lane
	socket string // set before run

	// The mutex is for the runs, which ask while run works.
	mu      sync.Mutex
	on, up  bool // run runs; the connection is there
	resting bool // after a try that failed
	used    time.Time
	state   chan struct{} // closed and made anew when one of these changes
	want    chan struct{} // wakes run
}

// newShares gives each lane its own: one TCP stream must not carry a video
// before a photo.
func (r *Rsyncer) newShares() map[fastsync.Lane]*share {
	shares := map[fastsync.Lane]*share{}
	if len(r.sshCommand()) == 0 {
		return shares
	}
	for _, lane := range []fastsync.Lane{fastsync.Live, fastsync.Bulk} {
		shares[lane] = &share{r: r, lane: lane, state: make(chan struct{}), want: make(chan struct{}, 1)}
	}
	return shares
}

// sshCommand is the words that connect to the other side, or none where that is
// not done by ssh, or by one that the operator shares already.
func (r *Rsyncer) sshCommand() []string {
	end := r.target
	if r.pull {
		end = r.source
	}
	words, ok := split(r.shell())
	if !ok || !remote(end) || strings.HasPrefix(end, "rsync://") || daemon(end) && r.cfg.Rsh == "" || filepath.Base(words[0]) != "ssh" {
		return nil
	}
	for _, w := range words {
		if strings.Contains(w, "Control") || w == "-S" || w == "-M" {
			return nil
		}
	}
	user, host := hostOf(end)
	if user != "" {
		words = append(words, "-l", user)
	}
	return append(words, "--", host)
}

// hostOf takes [user@]host:path or host::module apart; an IPv6 address stands
// in brackets.
func hostOf(end string) (user, host string) {
	if at := strings.LastIndexByte(end[:strings.IndexByte(end, ':')+1], '@'); at >= 0 {
		user, end = end[:at], end[at+1:]
	}
	if strings.HasPrefix(end, "[") {
		host, _, _ = strings.Cut(end[1:], "]")
		return user, host
	}
	host, _, _ = strings.Cut(end, ":")
	return user, host
}

// split takes a remote shell apart as rsync does: words, with quotes around
// what has spaces. It says no where a quote has no end.
func split(shell string) (words []string, ok bool) {
	var word []byte
	quote, in := byte(0), false
	for i := range len(shell) {
		switch c := shell[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && c == ' ':
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		default:
			word, in = append(word, c), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words, quote == 0 && len(words) > 0
}

// shared are the words that let a run use its lane's connection, if it is up.
func (r *Rsyncer) shared(lane fastsync.Lane) string {
	s := r.shares[lane]
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return ""
	}
	return " -o ControlMaster=no -S " + s.socket
}

// reach says that a lane is needed. A bulk run waits for its connection, which
// is opened when there is something to ship; a live one has no time to.
func (r *Rsyncer) reach(ctx context.Context, lane fastsync.Lane) {
	s := r.shares[lane]
	if s == nil {
		return
	}
	s.mu.Lock()
	s.used = time.Now()
	state, wait := s.state, s.on && !s.up && !s.resting && lane == fastsync.Bulk
	s.mu.Unlock()
	select {
	case s.want <- struct{}{}:
	default: // it will look anyhow
	}
	if wait {
		select {
		case <-state:
		case <-ctx.Done():
		}
	}
}

// run keeps the connection for as long as it is used, until ctx ends.
func (s *share) run(ctx context.Context) {
	defer s.set(func() { s.on = false })
	s.set(func() {
		s.on = true
		if s.lane == fastsync.Live {
			s.used = time.Now()
		}
	})
	failures := 0
	for ctx.Err() == nil {
		if s.unused(time.Now()) {
			select {
			case <-s.want:
			case <-ctx.Done():
			}
			continue
		}
		lived, said := s.once(ctx)
		if failures++; lived {
			failures = 0
		}
		pause := min(firstPause<<min(failures, 20), mostPause)
		if ctx.Err() == nil && !s.unused(time.Now()) {
			s.r.cfg.Log.Debug().Str("err", said).Str("lane", string(s.lane)).Dur("again", pause).Msg("the shared ssh connection has ended")
		}
		s.set(func() { s.resting = true })
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		s.set(func() { s.resting = false })
	}
}

func (s *share) unused(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.used) >= maxIdle
}

// set changes what runs see, and wakes those that wait for it.
func (s *share) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.state)
	s.state = make(chan struct{})
}

// once is one connection, from its login to its end. It tells whether it was up
// and what ssh said last.
func (s *share) once(ctx context.Context) (lived bool, said string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = os.Remove(s.socket) // of one that was killed
	words := append(s.r.sshCommand()[:1:1], "-M", "-N", "-T", "-S", s.socket, "-o", "ControlPersist=no",
		"-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no")
	words = append(words, s.r.sshCommand()[1:]...)
	var last string
	stderr := &lines{each: func(line string) { last = line }}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel ends it with the thread that started it: that one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Env, cmd.Stderr, cmd.WaitDelay = environment(), stderr, s.r.cfg.Grace
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		_ = cmd.Run()
		stderr.flush()
	}()
	if lived = s.awaitSocket(ended); lived {
		s.set(func() { s.up = true })
		s.r.pool.rouse()
		s.keep(ctx, ended)
		s.set(func() { s.up = false })
	}
	cancel()
	<-ended
	return lived, strings.TrimSuffix(last, "\r")
}

// awaitSocket tells whether the connection came up before its ssh ended.
func (s *share) awaitSocket(ended <-chan struct{}) bool {
	for look := time.Millisecond; ; look = min(2*look, 50*time.Millisecond) {
		if _, err := os.Lstat(s.socket); err == nil {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(look):
		}
	}
}

// keep returns when the connection has ended or nobody used it for long.
func (s *share) keep(ctx context.Context, ended <-chan struct{}) {
	for !s.unused(time.Now()) {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-time.After(maxIdle / 10):
		}
	}
}

// longestSocket is what the kernel takes as a socket's path, less what ssh adds
// while it makes one.
const longestSocket = 107 - 18

// controlDir makes the folder of the sockets; none where nothing is to be shared.
func (r *Rsyncer) controlDir() (string, error) {
	if len(r.shares) == 0 {
		return "", nil
	}
	tidyControl()
	dir, err := os.MkdirTemp("", fmt.Sprintf("fastsync-ssh-%d-", os.Getpid()))
	if err != nil {
		return "", err
	}
	if len(dir)+len("/live") > longestSocket || strings.ContainsAny(dir, " '\"%$\\") {
		_ = os.Remove(dir)
		return "", fmt.Errorf("%s is too long or odd for a socket: set TMPDIR to another folder", filepath.Dir(dir))
	}
	return dir, nil
}

// tidyControl removes what killed processes left.
func tidyControl() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "fastsync-ssh-*"))
	for _, dir := range dirs {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "fastsync-ssh-"), "-")
		if pid, err := strconv.Atoi(id); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}
