package rsyncer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fastsync/fastsync"
)

// On both sides: what bulk has to do takes nothing from a photo.
func TestBulkGivesWay(t *testing.T) {
	r, there := nicely(t, asAsked)
	eventually(t, "a shell waits", func() bool { return free(r) > 0 })
	here := filepath.Join(t.TempDir(), "here")
	r.rsync = script(t, `for i in $(seq 100); do [ "$(nice)" = 10 ] && break; sleep 0.02; done
		nice >> `+here+`; exec `+r.rsync+` "$@"`)
	if live := nices(there); slices.Contains(live, "10") {
		t.Errorf("live gives way: %q", live)
	}
	clean(t, shipBulk(t, r, entry("keep")))
	if got := nices(here); !slices.Contains(got, "10") {
		t.Errorf("here bulk does not give way: %q", got)
	}
	if got := nices(there); !slices.Contains(got, "10") {
		t.Errorf("there bulk does not give way: %q", got)
	}
	for lane, want := range map[fastsync.Lane]int{fastsync.Bulk: 10, fastsync.Live: 0} {
		got, err := syscall.Getpriority(syscall.PRIO_PROCESS, masterOf(r, lane))
		if must(t, err); 20-got != want { // as the kernel counts
			t.Errorf("the nice of an ssh is %d, want %d", 20-got, want)
		}
	}
}

// Also where the remote shell is ours to start, since rsync is confined.
func TestTheShellOfAConfinedRsyncGivesWay(t *testing.T) {
	cfg := setup(t)
	dir := t.TempDir()
	cfg.Rsh = script(t, `for i in $(seq 50); do [ "$(nice)" = 10 ] && break; sleep 0.02; done
nice >> `+dir+`/shell; shift; exec sh -c "$*"`)
	cfg.Target = "here:" + cfg.Target
	r := open(t, cfg)
	if why := r.Unconfined(); why != nil {
		t.Skip(why)
	}
	for lane, want := range map[fastsync.Lane]string{fastsync.Bulk: "10", fastsync.Live: "0"} {
		write(t, dir, "shell", "")
		write(t, cfg.Source, string(lane), "x")
		_, err := r.Sync(t.Context(), lane, entry(string(lane)))
		must(t, err)
		if got := nices(filepath.Join(dir, "shell")); len(got) == 0 || slices.ContainsFunc(got, func(n string) bool { return n != want }) {
			t.Errorf("%s: %q, want %s", lane, got, want)
		}
	}
}

// What decrypts a video is a process of the login's, not of rsync's.
func TestTheServersOwnProcessGivesWay(t *testing.T) {
	r, _, _ := overSSH(t, func(*Config) {})
	eventually(t, "a shell waits", func() bool { return free(r) > 0 })
	clean(t, shipBulk(t, r, entry("keep")))
	nice := map[int]int{}
	var count func(parent int)
	count = func(parent int) {
		for pid, name := range processes(parent) {
			if prio, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid); err == nil && strings.HasPrefix(name, "sshd: ") {
				nice[20-prio]++ // as the kernel counts
			}
			count(pid)
		}
	}
	count(os.Getpid())
	if nice[10] != 1 || nice[0] < 2 {
		t.Errorf("sshd's processes by nice: %v, want bulk's alone to have 10", nice)
	}
}

// A host with a forced command may take rsync and nothing else.
func TestOnlyAHostWithAShellIsAskedToGiveWay(t *testing.T) {
	r, there := nicely(t, `case $SSH_ORIGINAL_COMMAND in "rsync --server"*) ;; *) exit 1;; esac; `+asAsked)
	clean(t, shipBulk(t, r, entry("keep")))
	if got := nices(there); len(got) == 0 || slices.Contains(got, "10") {
		t.Errorf("there: %q", got)
	}
}

// The key may get a forced command while fastsync runs.
func TestAHostThatRunsNothingButRsyncAnyMore(t *testing.T) {
	forbidden := filepath.Join(t.TempDir(), "forbidden")
	r, there := nicely(t, `[ ! -e `+forbidden+` ] || case $SSH_ORIGINAL_COMMAND in "rsync --server"*) ;; *) exit 1;; esac; `+asAsked)
	eventually(t, "shells wait", func() bool { return free(r) == maxRunning })
	clean(t, shipBulk(t, r, entry("keep")))
	write(t, filepath.Dir(forbidden), "forbidden", "")
	if !slices.Contains(nices(there), "10") {
		t.Error("bulk did not give way")
	}
	for _, lane := range []fastsync.Lane{fastsync.Live, fastsync.Bulk} {
		signal(t, syscall.SIGKILL, masterOf(r, lane))
	}
	eventually(t, "it is known that there is no shell", func() bool { return !r.channels.canGiveWay() })
	write(t, r.cfg.Source, "large", "x")
	clean(t, shipBulk(t, r, entry("large")))
}

// nicely makes a target whose rsyncs write their nice to a file.
func nicely(t *testing.T, command string) (r *Rsyncer, there string) {
	t.Helper()
	cfg := setup(t)
	there = filepath.Join(t.TempDir(), "there")
	path := script(t, `nice >> `+there+`; exec `+need(t, "rsync")+` "$@"`)
	cfg.Rsh, _ = forced(t, `PATH=`+bin(t, path)+`:$PATH; `+command)
	cfg.Target, cfg.Warm = "127.0.0.1:"+cfg.Target, 1
	cfg.Unconfined = true // a test puts a script in rsync's place
	r = open(t, cfg)
	running(t, r)
	ready(t, r, 1)
	return r, there
}

func nices(file string) []string {
	return strings.Fields(read(filepath.Dir(file), filepath.Base(file)))
}
