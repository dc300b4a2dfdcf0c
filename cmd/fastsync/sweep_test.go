package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/redistest"
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

// An order that died with its subscriber is answered by nobody, and says so.
func TestASweepWhoseSubscriberIsStartedAnewEnds(t *testing.T) {
	options := redistest.Start(t)
	client, keys := redistest.Client(t, options), fastsync.NewKeys("media")
	serve := func(holder string) {
		text, err := json.Marshal(subscriber.State{Target: "web1", Holder: holder, Heartbeat: time.Now()})
		if err == nil {
			err = client.HSet(t.Context(), keys.Targets(), "web1", text).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	serve("host:1:A")
	orders := client.Subscribe(t.Context(), keys.Control("web1"))
	t.Cleanup(func() { _ = orders.Close() })
	if _, err := orders.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- sweepTarget(ctx, io.Discard, client, keys, "web1", "sweep") }()
	if _, err := orders.ReceiveMessage(ctx); err != nil {
		t.Fatal(err)
	}
	serve("host:2:B")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "order it again") {
		t.Errorf("ended with %v", err)
	}
}
