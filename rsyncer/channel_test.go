package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fastsync/fastsync"
)

// forced is an sshd that runs a script with each command instead of it, and the
// file to which the script adds a line for each session.
func forced(t testing.TB, text string) (rsh, sessions string) {
	t.Helper()
	sessions = filepath.Join(t.TempDir(), "sessions")
	name := script(t, "echo session >> "+sessions+"; "+text)
	return sshServer(t, "ForceCommand "+name), sessions
}

func count(file string) int {
	text, _ := os.ReadFile(file)
	return strings.Count(string(text), "\n")
}

// free is how many shells wait for an rsync.
func free(r *Rsyncer) int {
	r.channels.mu.Lock()
	defer r.channels.mu.Unlock()
	return len(r.channels.free)
}

// shells are all of them, and those that are being opened.
func shells(r *Rsyncer) int {
	r.channels.mu.Lock()
	defer r.channels.mu.Unlock()
	return r.channels.count
}

const asAsked = `exec sh -c "$SSH_ORIGINAL_COMMAND"`

func TestOneShellServesManyRuns(t *testing.T) {
	cfg := setup(t)
	target := cfg.Target
	var sessions string
	cfg.Rsh, sessions = forced(t, asAsked)
	cfg.Target, cfg.Warm = "127.0.0.1:"+target, 1
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 1)
	eventually(t, "shells wait", func() bool { return free(r) == maxRunning })
	ch := r.channels.take()
	before := count(sessions)
	for i := range 12 {
		inShell(t, r, ch, target, fmt.Sprint(i))
		must(t, ch.awaitServed())
	}
	r.channels.giveBack(ch, result{code: -1})
	if n := count(sessions) - before; n > 0 {
		t.Errorf("%d sessions more for 12 runs", n)
	}
}

// inShell ships a new file by a shell.
func inShell(t testing.TB, r *Rsyncer, ch *channel, target, name string) {
	t.Helper()
	write(t, r.cfg.Source, name, name)
	p, err := r.prestart(r.everyday(), ch)
	must(t, err)
	res := p.feed(context.Background(), []byte("/"+name+"\x00"), func(item) {}, r.cfg.Stall)
	if res.code != exitOK || res.err != nil || read(target, name) != name {
		t.Fatalf("%s: %+v", name, res)
	}
}

func TestAHostWithoutAShellForUs(t *testing.T) {
	for name, text := range map[string]string{
		"refused": `case "$SSH_ORIGINAL_COMMAND" in "rsync --server"*) ` + asAsked + `;; *) echo not allowed >&2; exit 1;; esac`,
		"chatty":  `case "$SSH_ORIGINAL_COMMAND" in "rsync --server"*) ` + asAsked + `;; *) yes;; esac`,
		"deaf":    `case "$SSH_ORIGINAL_COMMAND" in "rsync --server"*) ` + asAsked + `;; *) exec sleep 60;; esac`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := setup(t)
			target := cfg.Target
			cfg.Rsh, _ = forced(t, text)
			cfg.Target, cfg.Warm = "127.0.0.1:"+target, 1
			r := open(t, cfg)
			running(t, r)
			arrives(t, r, cfg.Source, target, "at once")

			within(t, 2*longestOpen, "one is ready, in a session of its own", func() bool { return len(waiting(r)) == 1 })
			arrives(t, r, cfg.Source, target, "after it")
			if n := free(r); n > 0 {
				t.Errorf("%d shells wait", n)
			}
		})
	}
}

func TestALostShellIsReplaced(t *testing.T) {
	r, target, _ := overSSH(t, nil)
	for i := range 3 {
		eventually(t, "shells wait", func() bool { return free(r) == maxRunning })
		r.channels.mu.Lock()
		for _, ch := range r.channels.free {
			signal(t, syscall.SIGKILL, ch.ssh.Pid)
		}
		r.channels.mu.Unlock()
		for j := range 4 { // more than wait in sessions of their own
			arrives(t, r, r.cfg.Source, target, fmt.Sprint(i, j))
		}
	}
	if n := shells(r); n > r.cfg.Warm+maxRunning {
		t.Errorf("%d shells", n)
	}
}

// The rsync here would wait for one that is gone until its timeout.
func TestTheRsyncAtTheOtherHostIsKilled(t *testing.T) {
	cfg := setup(t)
	target := cfg.Target
	at := filepath.Join(t.TempDir(), "pids")
	path := script(t, `echo $$ >> `+at+`; exec `+need(t, "rsync")+` "$@"`)
	cfg.Rsh, _ = forced(t, `PATH=`+bin(t, path)+`:$PATH; `+asAsked)
	cfg.Target, cfg.Warm = "127.0.0.1:"+target, 1
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 1)
	eventually(t, "its rsync runs", func() bool { return count(at) == 1 })
	var pid int
	_, err := fmt.Sscan(read(filepath.Dir(at), "pids"), &pid)
	must(t, err)
	signal(t, syscall.SIGKILL, pid)
	arrives(t, r, cfg.Source, target, "a")
	ready(t, r, 1)
}

// bin is a folder in which a script is called rsync.
func bin(t testing.TB, file string) string {
	dir := t.TempDir()
	must(t, os.Symlink(file, filepath.Join(dir, "rsync")))
	return dir
}

func TestAHostWithoutRsync(t *testing.T) {
	cfg := setup(t)
	empty := t.TempDir()
	for _, program := range []string{"sh", "cat"} {
		must(t, os.Symlink(need(t, program), filepath.Join(empty, program)))
	}
	cfg.Rsh, _ = forced(t, `PATH=`+empty+`; `+asAsked)
	cfg.Target, cfg.Warm = "127.0.0.1:"+cfg.Target, 1
	r := open(t, cfg)
	running(t, r)
	eventually(t, "there is a connection", func() bool { return r.shared(fastsync.Live) != "" })
	ch, err := r.openChannel(context.Background())
	must(t, err)
	p, err := r.prestart(r.everyday(), ch)
	must(t, err)
	if res := p.feed(context.Background(), []byte("/keep\x00"), func(item) {}, r.cfg.Stall); !stale(res) || !strings.Contains(strings.Join(res.notes, "\n"), "not found") {
		t.Errorf("%+v", res)
	}
	ch.close()
	var run *fastsync.RunError
	if _, err := r.Sync(context.Background(), fastsync.Live, entry("keep")); !errors.As(err, &run) || !strings.Contains(run.What, "the host has no rsync") {
		t.Errorf("%v", err)
	}
}

func TestWhatTheShellMakesOfATargetsName(t *testing.T) {
	for _, name := range []string{"a b", `quo"te'd`, "$(touch made)", "star*", `back\slash`, "semi;touch made", "-dash"} {
		t.Run(name, func(t *testing.T) {
			cfg := setup(t)
			target := filepath.Join(cfg.Target, name)
			cfg.Rsh, cfg.Target, cfg.Warm = sshServer(t), "127.0.0.1:"+target, 1
			r := open(t, cfg)
			running(t, r)
			eventually(t, "a shell waits", func() bool { return free(r) > 0 })
			ch := r.channels.take()
			inShell(t, r, ch, target, "a")
			r.channels.giveBack(ch, result{})
			if made, _ := filepath.Glob(filepath.Join(os.Getenv("HOME"), "made")); len(made) > 0 {
				_ = os.Remove(made[0])
				t.Error("the name was taken for a command")
			}
		})
	}
}

func TestOnlyLinesOfRsyncsOwnEnd(t *testing.T) {
	for line, want := range map[string]int{
		"client_run waiting on 123":  123,
		"client_run2 waiting on 123": 123,
		"client_run waiting on 1":    0,
		"client_run waiting on x":    0,
		" client_run waiting on 12":  0,
		"waiting on 123":             0,
	} {
		if pid, ok := connector(line); ok != (want != 0) || ok && pid != want {
			t.Errorf("%q: %d, %v", line, pid, ok)
		}
	}
}
