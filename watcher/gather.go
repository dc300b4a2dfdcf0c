package watcher

import (
	"sync"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

const (
	// slowest is the longest pause between two probes of an open file.
	slowest = time.Second
	// closing is how long the event of a close may be on its way.
	closing = 5 * time.Millisecond
	// mostOpen is how many files may wait for their writers, some 30 MB; for
	// more a catch-up looks when there is room again.
	mostOpen = 100_000
)

// opened is a file that a walk found open, and since when a catch-up must
// look to find it again.
type opened struct {
	path  string
	since time.Time
}

// pending is a regular file that was written and may still be open.
type pending struct {
	due   time.Time
	pause time.Duration
	at    time.Time // of its last event
	since time.Time // no earlier than this is what the event told of
	quiet bool      // the kernel does not tell: wait until due without an event
	// told is set while the kernel tells when its writer is done, and rested once a
	// probe has found that out first: most likely the event is on its way.
	told, rested bool
}

// gatherer holds paths until their writers are done, and events until the
// publisher is free. The loop alone uses it.
type gatherer struct {
	w       *Watcher
	running *sync.WaitGroup
	// good is a time up to which every event of the kernel was read, so that what an
	// event tells of happened after it, however late that is heard.
	good    time.Time
	closes  bool // the kernel tells when a writer has closed a file
	probing map[string]*pending
	next    time.Time // the earliest due of probing; zero for none
	// missed is the oldest change that probing had no room for; zero for none.
	missed  time.Time
	ready   map[string]waiting
	flushAt time.Time // when ready may go; zero while it is empty
	timer   *time.Timer

	young map[string]time.Time // when directories were made, for a while
	// breathe is until when events gather: many have just gone.
	breathe time.Time

	flying      bool // a Publish runs
	flyingSince time.Time
	published   chan struct{}
}

func newGatherer(w *Watcher, running *sync.WaitGroup) gatherer {
	timer := time.NewTimer(time.Hour)
	return gatherer{
		w: w, running: running, good: time.Now(), timer: timer, probing: map[string]*pending{},
		ready: map[string]waiting{}, young: map[string]time.Time{}, published: make(chan struct{}, 1),
	}
}

// touch notes a change of a regular file. The first one probes at once, later
// ones within a millisecond, so that a fast writer does not cost a probe a write.
func (g *gatherer) touch(p string) { g.touchSince(p, g.good) }

func (g *gatherer) touchSince(p string, since time.Time) {
	now := time.Now()
	q := g.probing[p]
	if q == nil {
		g.start(p, since)
		return
	}
	if q.at, q.since = now, since; q.told {
		return
	}
	q.pause = time.Millisecond
	if q.quiet {
		g.later(q, now.Add(g.w.cfg.Quiet))
	} else if soon := now.Add(time.Millisecond); q.due.After(soon) {
		g.later(q, soon)
	}
}

// await notes a change of a regular file whose writer most likely tells when he
// is done: only if he does not, it is probed.
func (g *gatherer) await(p string) {
	if g.probing[p] != nil {
		g.touch(p)
		return
	}
	now := time.Now()
	if q := (&pending{at: now, since: g.good, pause: closing, told: true}); g.hold(p, q) {
		g.later(q, now.Add(closing))
	}
}

// finish notes that a writer has closed a regular file. It is ready, unless
// another one has it open: where the kernel does not tell that, it counts as
// closed. The time of its last change stays, for closing it is none.
func (g *gatherer) finish(p string) {
	now := time.Now()
	state, _ := lease.Probe(g.w.abs(p))
	q := g.probing[p]
	switch {
	case state == lease.Open && q == nil:
		g.start(p, g.good)
	case state == lease.Open:
		q.pause, q.quiet, q.told = closing, false, true
		g.later(q, now.Add(q.pause))
	case q == nil:
		g.put(p, fastsync.Entry)
	default:
		delete(g.probing, p)
		g.putSince(p, fastsync.Entry, q.since)
	}
}

// start probes p for the first time; it changed after since.
func (g *gatherer) start(p string, since time.Time) {
	now := time.Now()
	q := &pending{at: now, since: since, pause: time.Millisecond}
	if g.hold(p, q) {
		g.probe(p, q, now)
	}
}

// hold keeps q if there is room for it, else its time for a catch-up.
func (g *gatherer) hold(p string, q *pending) bool {
	if len(g.probing) < g.w.cfg.mostOpen {
		g.probing[p] = q
		return true
	}
	g.miss(q.since)
	return false
}

func (g *gatherer) miss(at time.Time) {
	if g.missed.IsZero() || at.Before(g.missed) {
		g.missed = at
	}
}

// drop forgets that p may be open: it is gone or something else.
func (g *gatherer) drop(p string) { delete(g.probing, p) }

// follow probes a file that is part of a tree being published: only one that
// is open needs an event of its own.
func (g *gatherer) follow(p string, since time.Time) {
	if g.probing[p] != nil {
		return
	}
	state, _ := lease.Probe(g.w.abs(p))
	if state != lease.Open && state != lease.Unknown {
		return
	}
	now := time.Now()
	q := &pending{at: now, since: since, pause: time.Millisecond, quiet: state == lease.Unknown}
	switch {
	case !g.hold(p, q):
	case q.quiet:
		g.later(q, now.Add(g.w.cfg.Quiet))
	default:
		g.later(q, now.Add(q.pause))
	}
}

// adopt takes over the open files that a catch-up found.
func (g *gatherer) adopt() {
	g.w.mu.Lock()
	open, missed := g.w.open, g.w.missed
	g.w.open, g.w.missed = nil, time.Time{}
	g.w.mu.Unlock()
	if !missed.IsZero() {
		g.miss(missed)
	}
	for _, f := range open {
		if q := g.probing[f.path]; q == nil {
			g.start(f.path, f.since)
		} else if f.since.Before(q.since) {
			q.since = f.since
		}
	}
}

func (g *gatherer) later(q *pending, due time.Time) {
	q.due = due
	if g.next.IsZero() || due.Before(g.next) {
		g.next = due
	}
}

// probe asks whether p is still open; if not, its event is ready.
func (g *gatherer) probe(p string, q *pending, now time.Time) {
	state, err := lease.Probe(g.w.abs(p))
	if err != nil {
		g.w.cfg.Log.Debug().Err(err).Str("path", p).Msg("cannot tell whether a file is open; waiting for a quiet time")
	}
	switch {
	case state == lease.Open:
		q.quiet, q.told, q.rested = false, g.closes, false
		g.later(q, now.Add(q.pause))
		q.pause = min(2*q.pause, slowest)
	case state == lease.Unknown && now.Sub(q.at) < g.w.cfg.Quiet:
		q.quiet = true
		g.later(q, q.at.Add(g.w.cfg.Quiet))
	case q.told && !q.rested:
		q.rested = true
		g.later(q, now.Add(closing))
	default:
		delete(g.probing, p)
		g.putSince(p, fastsync.Entry, q.since)
	}
}

func (g *gatherer) probeDue(now time.Time) {
	g.next = time.Time{}
	for p, q := range g.probing {
		if q.due.After(now) {
			g.later(q, q.due)
		} else {
			g.probe(p, q, now)
		}
	}
}

// oldest is the earliest change that was not published, at most now.
func (g *gatherer) oldest(now time.Time) time.Time {
	for _, q := range g.probing {
		if q.since.Before(now) {
			now = q.since
		}
	}
	if !g.missed.IsZero() && g.missed.Before(now) {
		now = g.missed
	}
	for _, r := range g.ready {
		if r.since.Before(now) {
			now = r.since
		}
	}
	if g.flying && g.flyingSince.Before(now) {
		now = g.flyingSince
	}
	return now
}

// rearm sets the timer to whatever is due next, or to nothing.
func (g *gatherer) rearm() {
	at := g.next
	if !g.flying && len(g.ready) > 0 && (at.IsZero() || g.flushAt.Before(at)) {
		at = g.flushAt
	}
	if at.IsZero() {
		g.timer.Stop()
		return
	}
	g.timer.Reset(time.Until(at))
}
