package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// status is what the rig needs of status --json.
type status struct {
	Agent *struct {
		CaughtUp time.Time `json:"caught_up"`
	} `json:"agent"`
	Targets []struct {
		Target    string `json:"target"`
		Health    string `json:"health"`
		Live      bool   `json:"live"`
		Gap       string `json:"gap"`
		LagEvents int64  `json:"lag_events"`
		Sweep     struct {
			Running  bool      `json:"running"`
			Finished time.Time `json:"finished"`
			Drift    int       `json:"drift"`
			Left     int       `json:"left"`
		} `json:"sweep"`
		Paths []struct {
			Path string `json:"path"`
			Why  string `json:"why"`
		} `json:"failed_paths"`
	} `json:"targets"`
}

// fastsync runs a command of it; both outputs come together.
func (r *rig) fastsync(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Env = append(os.Environ(), r.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ask is what an operator sees, which may be why nothing can be seen.
func (r *rig) ask(ctx context.Context) string {
	out, _ := r.fastsync(ctx, append([]string{"status", "--json", "--name", name}, r.url()...)...)
	return out
}

func (r *rig) status(ctx context.Context) (status, error) {
	var st status
	out, err := r.fastsync(ctx, append([]string{"status", "--json", "--name", name}, r.directly()...)...)
	if jsonErr := json.Unmarshal([]byte(out), &st); jsonErr != nil {
		return st, errors.Join(err, jsonErr)
	}
	return st, nil
}

// ready waits until everything is live, watched, swept and equal.
func (r *rig) ready(ctx context.Context) error {
	var last status
	err := lab.Until(ctx, 3*time.Minute, 100*time.Millisecond, func() bool {
		st, err := r.status(ctx)
		if last = st; err != nil || st.Agent == nil || st.Agent.CaughtUp.IsZero() || len(st.Targets) != max(r.targets, 1) {
			return r.agent.Over()
		}
		for _, t := range st.Targets {
			if !t.Live || t.Sweep.Running || t.Sweep.Finished.IsZero() || t.Health != "ok" {
				return r.agent.Over()
			}
		}
		return true
	})
	if err == nil && r.agent.Over() {
		err = errors.New("it ended")
	}
	if err != nil {
		return fmt.Errorf("fastsync does not become ready: %w; status %+v; it said: %s", err, last, r.tail(2000))
	}
	return nil
}

func (r *rig) said() []byte {
	text, _ := os.ReadFile(r.log.Name())
	return text
}

func (r *rig) tail(n int) []byte {
	text := r.said()
	return text[max(0, len(text)-n):]
}

// lines counts the lines of the log from a place on that have a message.
func (r *rig) lines(from int, messages ...string) (n int) {
	text := r.said()
	for line := range bytes.Lines(text[min(from, len(text)):]) {
		var l struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(line, &l) != nil {
			continue
		}
		for _, m := range messages {
			if strings.HasPrefix(l.Message, m) {
				n++
			}
		}
	}
	return n
}
