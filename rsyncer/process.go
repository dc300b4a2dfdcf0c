package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/readlock"
)

const (
	maxLine  = 32 << 10 // longer than any path with each byte escaped
	maxNotes = 1000     // messages kept of a run
	lastOnes = 10       // of these the last, which say why it ended
)

var (
	errStalled  = errors.New("no progress")
	errReleased = errors.New("not needed any more")
	errForsaken = errors.New("the rsync at the other host has ended")
)

// result is how an rsync ended.
type result struct {
	code  int      // -1: killed
	notes []string // what it said that is not about an item
	said  []string // of these, what came on stdout: no remote shell's warnings among it
	items int64    // lines about items
	cut   bool     // it said more than notes has
	busy  []string // paths that it was refused since they are being written
	err   error    // it did not run, or was stopped
}

// process is one rsync, which may be started before there is a list for it.
type process struct {
	r       *Rsyncer
	until   time.Time // it is not kept ready longer
	pid     int
	stdin   *os.File
	marked  bool // its list has begun, by an entry that rsync skips
	found   atomic.Pointer[func(item)]
	near    atomic.Pointer[neighbour] // whose files it reads
	lines   atomic.Int64              // seen so far: read by the watchdog
	refused atomic.Bool               // ssh had to log in by itself
	channel *channel                  // that it goes through; nil for none
	escort  *escort                   // its remote shell outside of its confinement; nil for none
	lock    *readlock.Lock
	served  chan struct{} // closed when nobody serves the lock any more
	target  os.FileInfo   // a local target's folder as it was when it started
	kill    context.CancelCauseFunc
	ended   chan struct{} // closed when its group is gone; res is valid then
	res     result

	// The mutex is for what two speak of at the same time: its own messages and
	// those of the shell at the other host.
	mu    sync.Mutex
	notes []string
}

// call is one rsync from start to end.
type call struct {
	lane  fastsync.Lane
	args  []string
	stdin []byte
	found func(item)
	near  *neighbour // nil where it reads for nobody
}

// start runs rsync up to the point where it waits for its list, through a
// channel where there is one.
func (r *Rsyncer) start(lane fastsync.Lane, args []string, ch *channel) (*process, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &process{r: r, channel: ch, kill: cancel, ended: make(chan struct{})}
	var err error
	if ch != nil {
		args = r.through(args)
	} else if r.Unconfined() == nil {
		if p.escort, args, err = newEscort(lane, args); err != nil {
			cancel(nil)
			return nil, fmt.Errorf("start rsync: %w", err)
		}
	}
	stdout, stderr := p.collect()
	cmd := exec.CommandContext(ctx, r.rsync, args...)
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = r.cfg.Grace
	if ch != nil {
		cmd.ExtraFiles = []*os.File{ch.in, ch.out}
		ch.user.Store(p)
	} else if p.escort != nil {
		cmd.ExtraFiles = p.escort.ends
	}
	toRead, stdin, err := os.Pipe()
	if err == nil {
		cmd.Stdin, p.stdin = toRead, stdin
		if p.lock, err = r.startConfined(cmd); err != nil {
			stdin.Close()
		}
		toRead.Close()
	}
	if p.escort != nil {
		closeAll(p.escort.ends)
	}
	if err != nil {
		if p.escort != nil {
			p.escort.drop()
		}
		cancel(nil)
		return nil, fmt.Errorf("start rsync: %w", err)
	}
	p.pid = cmd.Process.Pid
	giveWay(lane, p.pid)
	if p.escort != nil {
		go p.escort.run(p.pid, p.note)
	}
	if !remote(r.target) {
		p.target, _ = os.Stat(r.target)
	}
	if p.lock != nil {
		p.served = make(chan struct{})
		go p.serve()
	}
	go p.wait(ctx, cmd, stdout, stderr)
	return p, nil
}

// collect makes the writers that take in what rsync says.
func (p *process) collect() (stdout, stderr *lines) {
	return &lines{each: func(line string) {
		if p.channel != nil {
			if pid, ok := connector(line); ok {
				_ = syscall.Kill(pid, syscall.SIGTERM)
				return
			}
			if ending(line) {
				return
			}
		}
		p.lines.Add(1)
		if it, ok := parseItem(line); ok {
			if found := p.found.Load(); found != nil {
				(*found)(it)
			}
			return
		}
		if line != "" && !strings.HasPrefix(line, format) && len(p.res.said) < maxNotes {
			p.res.said = append(p.res.said, unescape(line))
		}
	}}, &lines{each: p.note}
}

// note takes a message that is about no item.
func (p *process) note(line string) {
	line = strings.TrimSuffix(line, "\r") // as ssh ends its own
	if sessionRefused(line) {
		p.refused.Store(true)
		p.r.pool.rouse()
		return // a matter of speed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if line == "" {
		return
	}
	if len(p.notes) == maxNotes {
		p.res.cut = true
		p.notes = slices.Delete(p.notes, maxNotes-lastOnes, maxNotes-lastOnes+1)
	}
	p.notes = append(p.notes, unescape(line))
}

// forsaken says that the rsync at the other end of the channel has ended: this
// one has nothing to wait for.
func (p *process) forsaken() { time.AfterFunc(lastWord/2, func() { p.kill(errForsaken) }) }

// wait ends with the process and all of its group.
func (p *process) wait(ctx context.Context, cmd *exec.Cmd, stdout, stderr *lines) {
	defer close(p.ended)
	defer p.kill(nil)
	err := cmd.Wait()
	// Whoever is left of the group, as an ssh that ignores SIGTERM, goes too.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	p.unlock()
	if p.escort != nil {
		p.escort.end()
	}
	stdout.flush()
	stderr.flush()
	p.mu.Lock()
	p.res.notes = slices.Concat(p.res.said, p.notes)
	p.mu.Unlock()
	p.res.items = p.lines.Load()
	p.res.code = cmd.ProcessState.ExitCode()
	if cause := context.Cause(ctx); cause != nil {
		p.res.err = cause
	} else if err != nil && p.res.code < 0 {
		p.res.err = err
	}
}

// alive tells whether it has not ended.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// feed gives it the list, hands on each item, and waits for its end, but not
// without progress for longer than the stall time, or than first before its first
// line: after that it may be sending what it has read long ago.
func (p *process) feed(ctx context.Context, list []byte, found func(item), first time.Duration) result {
	p.found.Store(&found)
	unlink := context.AfterFunc(ctx, func() { p.kill(context.Cause(ctx)) })
	defer unlink()
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helpers.Go(func() { p.watch(first) })
	helpers.Go(func() {
		_, _ = p.stdin.Write(list) // one that ends before says why by itself
		_ = p.stdin.Close()
	})
	<-p.ended
	if p.near.Load() != nil { // it ships
		p.r.parted(p.res)
	}
	return p.res
}

// release lets one that got no list end: without a list it has nothing to do.
func (p *process) release() {
	_ = p.stdin.Close()
	late := time.AfterFunc(p.r.cfg.Grace, func() { p.kill(errReleased) })
	<-p.ended
	late.Stop()
}

func (r *Rsyncer) run(ctx context.Context, c call) result {
	p, err := r.start(c.lane, c.args, nil)
	if without, ok := errors.AsType[noTarget](err); ok {
		return result{code: 11, notes: []string{without.Error()}}
	}
	if err != nil {
		return result{code: 127, err: err}
	}
	p.near.Store(c.near)
	return p.feed(ctx, c.stdin, c.found, r.cfg.Stall)
}

// watch ends it when nothing moved for the stall time. What rsync wrote is no
// sign of life, since keepalives fill a socket's buffer; what it read is.
func (p *process) watch(first time.Duration) {
	tick := time.NewTicker(min(time.Second, first/4+1))
	defer tick.Stop()
	moved, last := time.Now(), int64(-1)
	for {
		select {
		case <-p.ended:
			return
		case <-tick.C:
		}
		read, ok := bytesRead(p.pid)
		if now := p.lines.Load() + read; !ok || now != last { // unreadable: rsync's own timeout is what is left
			moved, last = time.Now(), now
		}
		limit := p.r.cfg.Stall
		if p.lines.Load() == 0 {
			limit = first
		}
		if time.Since(moved) >= limit {
			p.kill(fmt.Errorf("%w for %s", errStalled, limit))
			return
		}
	}
}

// bytesRead is how much a process has read so far, by its kernel's account.
func bytesRead(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, false
	}
	var n int64
	_, err = fmt.Sscanf(string(text), "rchar: %d", &n)
	return n, err == nil
}

// environment is what the child gets: no RSYNC_* of the operator's may change
// what a run does, and messages are in English for the parser.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, key := range []string{"PATH", "HOME", "USER", "SSH_AUTH_SOCK", "RSYNC_PASSWORD"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return env
}
