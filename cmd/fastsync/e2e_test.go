package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/fastsync/fastsync/watcher"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"fastsync": func() { os.Exit(unlessLeaks(run())) }})
}

// leakless runs the tests and then looks for goroutines that they left.
type leakless struct{ *testing.M }

func (m leakless) Run() int { return unlessLeaks(m.M.Run()) }

// unlessLeaks makes the exit code 99 where goroutines are left.
func unlessLeaks(code int) int {
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	return code
}

// TestEndToEnd runs what a user types, with the real redis-server and rsync.
func TestEndToEnd(t *testing.T) {
	for _, tool := range []string{"rsync", "redis-server", "redis-cli"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/e2e",
		Setup: func(env *testscript.Env) error {
			state := filepath.Join(env.WorkDir, "state")
			env.Setenv("FASTSYNC_STATE_DIR", state)
			env.Setenv("FASTSYNC_REDIS_LISTEN", "")
			contrib, err := filepath.Abs("../../contrib")
			if err != nil {
				return err
			}
			env.Setenv("CONTRIB", contrib)
			env.Setenv("SOCK", filepath.Join(state, "redis.sock"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "fanotify":
				return watcher.Probe(os.TempDir(), nil) == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually": eventually,
			"same":       same,
			"settled":    settled,
			"port":       portCmd,
			"noprocess":  noProcess,
			"smalldisk":  smallDisk,
			"sshd":       sshdCmd,
			"daemon":     daemonCmd,
		},
	})
}

// eventually runs a command until it succeeds (with !, fails), for 20 s at most.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	var out []byte
	for time.Now().Before(deadline) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = append(os.Environ(), "FASTSYNC_STATE_DIR="+ts.Getenv("FASTSYNC_STATE_DIR"), "PATH="+ts.Getenv("PATH"), "WORK="+ts.Getenv("WORK"),
			"FASTSYNC_REDIS_PASSWORD="+ts.Getenv("FASTSYNC_REDIS_PASSWORD"))
		for _, name := range []string{"FASTSYNC_REDIS", "A", "B", "C", "M", "R", "S"} {
			if value := ts.Getenv(name); value != "" {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
		}
		var err error
		if out, err = cmd.CombinedOutput(); (err == nil) != neg {
			return
		}
		time.Sleep(20 * time.Millisecond) // a poll, bounded by the deadline
	}
	ts.Fatalf("after 20 s still not as wanted: %q: %s", args, out)
}

// same waits until rsync sees no difference in content, names or modes.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same SOURCE TARGET")
	}
	deadline := time.Now().Add(30 * time.Second)
	var out []byte
	for time.Now().Before(deadline) {
		cmd := exec.Command("rsync", "-anicO", "--delete", "--modify-window=-1", args[0]+"/", args[1]+"/")
		cmd.Dir = ts.Getenv("WORK")
		var err error
		if out, err = cmd.CombinedOutput(); err == nil && len(bytes.TrimSpace(out)) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond) // a poll, bounded by the deadline
	}
	ts.Fatalf("%s", fmt.Sprintf("after 30 s %s and %s still differ:\n%s", args[0], args[1], out))
}

// settled waits until a fastsync that was started for the first time has caught
// up, which means that it hears the channel, and swept, and nothing is under
// way. Its arguments go to `fastsync status`.
func settled(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: settled [FLAG...]")
	}
	deadline := time.Now().Add(20 * time.Second)
	var out []byte
	for time.Now().Before(deadline) {
		cmd := exec.Command("fastsync", append([]string{"status", "--json"}, args...)...)
		cmd.Env = append(os.Environ(), "FASTSYNC_STATE_DIR="+ts.Getenv("FASTSYNC_STATE_DIR"), "PATH="+ts.Getenv("PATH"),
			"FASTSYNC_REDIS_PASSWORD="+ts.Getenv("FASTSYNC_REDIS_PASSWORD"))
		var err error
		var st status
		if out, err = cmd.Output(); err == nil && json.Unmarshal(out, &st) == nil && quiet(st) {
			return
		}
		time.Sleep(20 * time.Millisecond) // a poll, bounded by the deadline
	}
	ts.Fatalf("after 20 s still not settled: %s", out)
}

func quiet(st status) bool {
	if st.Agent == nil || st.Agent.CaughtUp.IsZero() || len(st.Targets) == 0 {
		return false
	}
	for _, t := range st.Targets {
		if !t.Live || t.LagEvents > 0 || t.Waiting > 0 || t.Sweep.Running || t.Sweep.Finished.IsZero() {
			return false
		}
	}
	return true
}

// noProcess fails if any process works in the script's directory: what fastsync
// starts inherits its working directory.
func noProcess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: noprocess")
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	ts.Check(err)
	work := ts.Getenv("WORK")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, work) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline")) // gone meanwhile: empty
			ts.Fatalf("left behind: %s: %q", link, cmdline)
		}
	}
}
