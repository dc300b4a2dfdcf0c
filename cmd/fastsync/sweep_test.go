package main

import (
	"strings"
	"testing"
	"time"

	"github.com/fastsync/fastsync/subscriber"
)

// A terminal shows a bar with total, rate and time left.
func TestProgressOnATerminal(t *testing.T) {
	var out strings.Builder
	p := progress{w: &out, bar: true}
	now := time.Now()
	st := subscriber.State{Target: "web1", Sweep: subscriber.Sweep{Running: true, Started: now.Add(-10 * time.Second)}}
	p.step(st, now)
	st.Sweep.Drift, st.Sweep.Repaired = 3000, 1000
	p.step(st, now)
	st.Sweep.Running, st.Sweep.Repaired, st.Sweep.Took = false, 3000, time.Minute
	if err := p.end("web1", st.Sweep); err != nil {
		t.Error(err)
	}
	want := "\r\x1b[K[······························] web1: comparing, 0 differ so far" +
		"\r\x1b[K[██████████····················] web1: 1000 of 3000 repaired, 100/s, 20s left" +
		"\r\x1b[Kweb1: drift 3000, repaired 3000, left 0, only at the target 0, took 1m0s\n"
	if out.String() != want {
		t.Errorf("%q\nwant\n%q", out.String(), want)
	}
}

// Elsewhere it is a line every 10 s.
func TestProgressInALog(t *testing.T) {
	var out strings.Builder
	p := progress{w: &out}
	begun := time.Now()
	for s := range 25 {
		p.step(subscriber.State{Target: "web1", Sweep: subscriber.Sweep{Running: true, Started: begun, Drift: s}}, begun.Add(time.Duration(s)*time.Second))
	}
	want := "web1: comparing, 0 differ so far\nweb1: comparing, 10 differ so far\nweb1: comparing, 20 differ so far\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}
