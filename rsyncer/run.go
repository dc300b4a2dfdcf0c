package rsyncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxLine  = 32 << 10 // longer than any path with each byte escaped
	maxNotes = 1000     // messages kept of a run
)

var errStalled = errors.New("no progress")

// result is how an rsync ended.
type result struct {
	code  int      // -1: killed
	notes []string // what it said that is not about an item
	said  []string // of these, what came on stdout: no remote shell's warnings among it
	err   error    // it did not run, or was stopped
}

// run starts rsync, feeds it the list, hands on each item and always waits for
// the end of the whole process group.
func (r *Rsyncer) run(ctx context.Context, args []string, stdin []byte, found func(item)) result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ticks atomic.Int64 // lines seen: read by the watchdog
	res := result{}
	note := func(line string) {
		line = strings.TrimSuffix(line, "\r") // as ssh ends its own
		if line != "" && len(res.notes) < maxNotes {
			res.notes = append(res.notes, unescape(line))
		}
	}
	stderr := &lines{each: note}
	var said []string // of stdout, kept apart: both writers run at the same time
	stdout := &lines{each: func(line string) {
		ticks.Add(1)
		if it, ok := parseItem(line); ok {
			found(it)
		} else if line != "" && !strings.HasPrefix(line, format) && len(said) < maxNotes {
			said = append(said, unescape(line))
		}
	}}
	cmd := exec.CommandContext(ctx, r.rsync, args...)
	cmd.Env = environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = r.cfg.Grace
	if err := cmd.Start(); err != nil {
		return result{code: 127, err: fmt.Errorf("start rsync: %w", err)}
	}
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(cmd.Process.Pid, &ticks, done, cancel)
	}()
	err := cmd.Wait()
	close(done)
	<-watched
	// Whoever is left of the group, as an ssh that ignores SIGTERM, goes too.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	stdout.flush()
	stderr.flush()
	res.said, res.notes = said, append(said, res.notes...)
	res.code = cmd.ProcessState.ExitCode()
	if cause := context.Cause(ctx); cause != nil {
		res.err = cause
	} else if err != nil && res.code < 0 {
		res.err = err
	}
	return res
}

// watch cancels when nothing moved for the stall time. What rsync wrote is no
// sign of life, since keepalives fill a socket's buffer; what it read is.
func (r *Rsyncer) watch(pid int, seen *atomic.Int64, done <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(min(time.Second, r.cfg.Stall/4+1))
	defer tick.Stop()
	moved, last := time.Now(), int64(-1)
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		read, ok := bytesRead(pid)
		if now := seen.Load() + read; !ok || now != last { // unreadable: rsync's own timeout is what is left
			moved, last = time.Now(), now
		}
		if time.Since(moved) >= r.cfg.Stall {
			cancel(errStalled)
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

// lines hands on each line that is written to it; one too long is dropped.
type lines struct {
	each func(string)
	rest []byte
	skip bool
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		l.rest = append(l.rest, p[:i]...)
		l.flush()
		p = p[i+1:]
	}
	if l.rest = append(l.rest, p...); len(l.rest) > maxLine {
		l.rest, l.skip = l.rest[:0], true
	}
	return n, nil
}

func (l *lines) flush() {
	if !l.skip && len(l.rest) > 0 {
		l.each(string(l.rest))
	}
	l.rest, l.skip = l.rest[:0], false
}
