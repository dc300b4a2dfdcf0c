package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// script makes an executable of shell lines.
func script(t testing.TB, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(name, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	return name
}

// ended fails if the process whose id is in the file still runs.
func ended(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	deadline := time.Now().Add(5 * time.Second)
	for {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs: %s", pid, stat)
		}
		runtime.Gosched()
	}
}

func TestStalledPeer(t *testing.T) { // facts 3, 4
	cfg := setup(t)
	pid := filepath.Join(t.TempDir(), "pid")
	cfg.Target = "nowhere:/x"
	cfg.Rsh = script(t, `trap "" TERM; echo $$ > `+pid+`; while :; do sleep 1; done`)
	cfg.Stall, cfg.Grace = 200*time.Millisecond, 200*time.Millisecond
	_, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep"))
	var run *fastsync.RunError
	if !errors.As(err, &run) || run.Class != fastsync.Transient || !errors.Is(err, errStalled) {
		t.Fatalf("%v", err)
	}
	ended(t, pid)
}

// What was read at once may take long to send: it is only before its first line
// that an rsync which was kept ready has less time.
func TestNoHasteOnceItShips(t *testing.T) {
	for first, want := range map[string]error{"": errStalled, "echo '" + format + ">f+++++++++ keep';": nil} {
		cfg := setup(t)
		cfg.Stall, cfg.RsyncPath = 10*time.Second, script(t, first+` sleep 1`)
		p, err := open(t, cfg).start(fastsync.Live, nil, nil)
		must(t, err)
		if first != "" {
			eventually(t, "its first line", func() bool { return p.lines.Load() > 0 })
		}
		if res := p.feed(context.Background(), nil, func(item) {}, 100*time.Millisecond); !errors.Is(res.err, want) {
			t.Errorf("%q: %+v", first, res)
		}
	}
}

func TestCancelEndsEverything(t *testing.T) {
	cfg := setup(t)
	dir := t.TempDir()
	pid, ready := filepath.Join(dir, "pid"), filepath.Join(dir, "ready")
	must(t, syscall.Mkfifo(ready, 0o600))
	cfg.Target, cfg.Grace = "nowhere:/x", 200*time.Millisecond
	cfg.Rsh = script(t, `trap "" TERM; echo $$ > `+pid+`; echo > `+ready+`; while :; do sleep 1; done`)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = os.ReadFile(ready) // blocks until the shell runs
		cancel()
	}()
	_, err := open(t, cfg).Sync(ctx, fastsync.Live, entry("keep"))
	<-done
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	ended(t, pid)
}

func TestExitCodes(t *testing.T) { // fact 13
	for code, class := range map[int]fastsync.Class{
		1: fastsync.Person, 2: fastsync.Person, 4: fastsync.Person, 14: fastsync.Person, 126: fastsync.Person, 127: fastsync.Person,
		3: 0, 5: 0, 10: 0, 12: 0, 20: 0, 30: 0, 35: 0, 255: 0, 77: 0, 11: fastsync.Full,
	} {
		cfg := setup(t)
		cfg.Name = "web1"
		cfg.RsyncPath = script(t, `echo "it broke" >&2; echo "rsync error: x" >&2; exit `+strconv.Itoa(code))
		_, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep"))
		var run *fastsync.RunError
		if !errors.As(err, &run) || run.Class != class || run.Code != code ||
			!strings.Contains(run.What, "it broke") || !strings.Contains(run.What, "web1") {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// The message that says why is shown, with what to do, whatever the exit code
// and the complaints around it.
func TestKnownMessages(t *testing.T) { // fact 13
	echo := "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"
	for name, c := range map[string]struct {
		says  []string
		code  int
		class fastsync.Class
		want  string
	}{
		"no inodes":    {[]string{`rsync: mkstemp "/x": No space left on device (28)`}, 23, fastsync.Full, "make some there"},
		"read-only":    {[]string{`rsync: [receiver] mkstemp "/x" failed: Read-only file system (30)`}, 23, fastsync.Full, "mounted read-only"},
		"login":        {[]string{"Warning: Permanently added 'h' to the list of known hosts.", "u@h: Permission denied (publickey).", echo}, 12, fastsync.Person, "(u@h: Permission denied (publickey).)"},
		"host key":     {[]string{"Host key verification failed.", echo}, 255, fastsync.Person, "known_hosts"},
		"host down":    {[]string{"ssh: connect to host h port 22: No route to host", echo}, 255, fastsync.Transient, "firewall"},
		"locked":       {[]string{"ERROR: module is read only", "rsync: [sender] read error: Connection reset by peer (104)"}, 1, fastsync.Person, "read only = no"},
		"no rsync":     {[]string{"bash: line 1: rsync: command not found", echo}, 12, fastsync.Person, "install it there"},
		"unknown":      {[]string{"the ship has sunk", echo, "rsync error: x"}, 12, fastsync.Transient, "the ship has sunk"},
		"only an echo": {[]string{echo, "rsync error: x"}, 12, fastsync.Transient, "check the network"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := setup(t)
			cfg.RsyncPath = script(t, `cat >&2 <<"."`+"\n"+strings.Join(c.says, "\n")+"\n.\nexit "+strconv.Itoa(c.code))
			_, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("keep"))
			if err == nil || fastsync.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A file's name is no message: one path fails, not the target.
func TestANameIsNoMessage(t *testing.T) {
	cfg := setup(t)
	for _, name := range []string{"No space left on device (28)", "x: Permission denied (publickey).", "ERROR: module is read only"} {
		write(t, cfg.Source, name, "x")
		write(t, cfg.Target, name+"/in the way", "x")
	}
	out, err := open(t, cfg).Sync(context.Background(), fastsync.Live, entry("No space left on device (28)", "x: Permission denied (publickey).", "ERROR: module is read only"))
	if err != nil || len(out.Failed) != 3 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestEnvironmentIsScrubbed(t *testing.T) { // fact 15
	t.Setenv("RSYNC_RSH", "false")
	t.Setenv("RSYNC_PARTIAL_DIR", "x")
	t.Setenv("RSYNC_PASSWORD", "of a daemon")
	cfg := setup(t)
	seen := filepath.Join(t.TempDir(), "env")
	cfg.RsyncPath = script(t, `env > `+seen+`; exec rsync "$@"`)
	clean(t, ship(t, open(t, cfg), entry("keep")))
	if env := read("/", seen); strings.Contains(env, "RSYNC_RSH") || strings.Contains(env, "RSYNC_PARTIAL_DIR") ||
		!strings.Contains(env, "RSYNC_PASSWORD=of a daemon") || !strings.Contains(env, "LC_ALL=C") {
		t.Error(env)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\#012b`: "a\nb", `a\#134#012`: `a\#012`, `\#999`: `\#999`, `\#1`: `\#1`, `\#777`: `\#777`} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// escape does what rsync does to a name that it prints with --8-bit-output.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		_, ambiguous := octal(s[i:])
		if s[i] < ' ' && s[i] != '\t' || s[i] == 127 || ambiguous {
			b.WriteString(`\#` + string([]byte{'0' + s[i]>>6, '0' + s[i]>>3&7, '0' + s[i]&7}))
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"a\nb", `\#012`, `\\#012`, "\xff", `\#`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(escape(s)); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		parseItem(format + s)
		mentions(s, "a/b")
	})
}

// The last messages say why a run ended, however many there were before.
func TestTheLastMessagesAreKept(t *testing.T) {
	p := &process{r: open(t, setup(t))}
	for i := range 3 * maxNotes {
		p.note(fmt.Sprint("message ", i))
	}
	n := len(p.notes)
	if n != maxNotes || p.notes[0] != "message 0" || p.notes[n-1] != fmt.Sprint("message ", 3*maxNotes-1) || p.notes[n-lastOnes] != fmt.Sprint("message ", 3*maxNotes-lastOnes) {
		t.Errorf("%d messages, from %q to %q", n, p.notes[0], p.notes[n-1])
	}
}
