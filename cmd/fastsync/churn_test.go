package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestChurn changes a root at random and wants the target equal by events
// alone: sweeps are off. FASTSYNC_CHURN_SEED and FASTSYNC_CHURN_OPS repeat a
// failure or make it longer.
func TestChurn(t *testing.T) {
	seed := churnNumber(t, "FASTSYNC_CHURN_SEED", 1)
	for name, kills := range map[string]int{"one run": 0, "killed": 4} {
		t.Run(name, func(t *testing.T) { churn(t, seed+uint64(kills), kills) })
	}
}

func churnNumber(t *testing.T, name string, unset uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return unset
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func churn(t *testing.T, seed uint64, kills int) {
	for _, tool := range []string{"rsync", "redis-server"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	ops := int(churnNumber(t, "FASTSYNC_CHURN_OPS", 1500))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with FASTSYNC_CHURN_SEED=%d FASTSYNC_CHURN_OPS=%d -run '%s'", seed-uint64(kills), ops, t.Name())
		}
	})
	c := newChurner(t, seed)
	s := newChurned(t, c.root)
	s.start()
	before := s.swept()
	for i := range ops {
		c.step()
		if kills > 0 && i%(ops/(kills+1)+1) == ops/(kills+1) {
			s.kill()
			for range 20 {
				c.step() // while nobody watches
			}
			s.start()
		}
	}
	s.same(kills > 0)
	if after := s.swept(); after != before {
		t.Errorf("a sweep ran: %q, before %q", after, before)
	}
}

// churned is a fastsync that runs for a churner.
type churned struct {
	t                   *testing.T
	root, target, state string
	cmd                 *exec.Cmd
	log                 *os.File
}

func newChurned(t *testing.T, root string) *churned {
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &churned{t: t, root: root, target: filepath.Join(dir, "target"), state: filepath.Join(dir, "state"), log: log}
	t.Cleanup(func() {
		s.stop(os.Interrupt)
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("log ends:\n%s", text[max(0, len(text)-6000):])
		}
	})
	return s
}

func (s *churned) start() {
	s.cmd = exec.Command("fastsync", "run", "--source", s.root, "--target", "t="+s.target, "--delete",
		"--max-delete", "1000000", "--sweep-every", "0", "--state-dir", s.state, "--redis-listen", "")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.swept()
}

func (s *churned) kill() { s.stop(os.Kill) }

func (s *churned) stop(sig os.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// swept waits for a finished sweep and returns which one it was, and its drift.
func (s *churned) swept() string {
	s.t.Helper()
	var last []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		last, _ = exec.Command("fastsync", "status", "--json", "--state-dir", s.state).Output()
		var st status
		if json.Unmarshal(last, &st) != nil || len(st.Targets) != 1 || st.Agent == nil || st.Agent.CaughtUp.IsZero() {
			continue
		}
		if sw := st.Targets[0].Sweep; !sw.Running && !sw.Finished.IsZero() {
			return fmt.Sprint(sw.ID, sw.Started.UnixNano(), " drift ", sw.Drift, " repaired ", sw.Repaired)
		}
	}
	s.t.Fatalf("no finished sweep in 30 s: %s", last)
	return ""
}

// same waits until rsync sees no difference. A killed process forgets which
// directory times it had still to set, and leaves what was half received.
func (s *churned) same(killed bool) {
	s.t.Helper()
	args := []string{"-anic", "--delete", "--modify-window=-1", s.root + "/", s.target + "/"}
	if killed {
		args = append(args, "--omit-dir-times", "--exclude=.fastsync-partial/")
	}
	var out []byte
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out, err = exec.Command("rsync", args...).CombinedOutput()
		if err == nil && len(bytes.TrimSpace(out)) == 0 {
			return
		}
	}
	s.t.Fatalf("root and target differ after 30 s: %v\n%s", err, out)
}
