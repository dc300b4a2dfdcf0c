package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// Until a catch-up has ended well nobody knows what changed while the agent was away.
func TestACatchUpThatRunsOrFailsIsShown(t *testing.T) {
	now := time.Now()
	said := func(c *catching) string {
		st := status{Agent: &agentState{Heartbeat: now, CatchingUp: c.begun, CatchUpFault: c.fault}}
		var lines strings.Builder
		printAgent(func(format string, args ...any) { fmt.Fprintf(&lines, format+"\n", args...) }, st, now)
		return verdict(st, now) + "\n" + lines.String()
	}
	c := &catching{begun: now.Add(-3 * time.Second)}
	if text := said(c); !strings.Contains(text, "a catch-up began 3s ago") || strings.Contains(text, "cannot catch up") {
		t.Errorf("while it runs:\n%s", text)
	}
	s := &service{log: zerolog.Nop()}
	s.caughtUp(t.Context(), parts{}, c, errors.New("read the root: input/output error"))
	if text := said(c); !strings.Contains(text, "the agent cannot catch up") || !strings.Contains(text, "input/output error") {
		t.Errorf("when it has failed:\n%s", text)
	}
}
