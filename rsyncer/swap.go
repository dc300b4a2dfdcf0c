package rsyncer

import (
	"context"
	"time"

	"github.com/fastsync/fastsync"
)

// A shell at the other host starts an rsync in a tenth of the time that a session
// takes, but what goes through it passes four more processes, which costs a
// single file 1.5 ms. So under load shells have the next rsync ready, and in calm
// sessions of their own take over. While bulk ships there is no calm: what it
// leaves of the cores a login would take from the next batch.

const (
	// calm is for how long there must have been no batch.
	calm = 100 * time.Millisecond
	// login is how often to look whether a session is logged in.
	login = 50 * time.Millisecond
)

// want is an rsync that is to be started.
type want struct {
	spec  spec
	apart bool // in a session of its own
}

// swaps tells whether a kind is kept in sessions while it is calm, and in shells
// while it is not.
func (p *pool) swaps(s spec, now time.Time) bool {
	return s == p.policy.everyday && p.r.channelled() && p.r.shared(fastsync.Live) != "" && !now.Before(p.policy.fewer)
}

// missing is what is to be started of a kind, and when that may change.
func (p *pool) missing(s spec, now time.Time) (missing []want, until time.Time) {
	keep, until := p.policy.keep(s, now), now.Add(p.policy.idle)
	if !p.swaps(s, now) {
		for range keep - len(p.idle[s]) {
			missing = append(missing, want{s, false})
		}
		return missing, until
	}
	rests, bulk, quiet := p.taken.Add(calm), p.r.using(fastsync.Bulk), p.working == 0
	if quiet && keep > 0 && p.stranded(s) {
		missing = append(missing, want{s, false})
	}
	if !quiet || bulk || now.Before(rests) {
		for range keep - len(p.idle[s]) - len(missing) {
			if p.pressed || quiet && bulk || !now.Before(rests) { // else most likely a single file, and then calm
				missing = append(missing, want{s, false})
			}
		}
		if now.Before(rests) {
			until = rests
		}
		return missing, until
	}
	apart := len(p.idle[s]) - p.inShells(s)
	for range keep - apart {
		missing = append(missing, want{s, true})
	}
	if apart < len(p.idle[s]) || p.waiters(s) < keep && p.r.channels.fewerThan(maxRunning) {
		until = now.Add(login)
	}
	return missing, until
}

// stranded tells whether a batch that came now would find none that waits, but a
// shell that could have had one: while the cores are busy, an rsync takes long to
// start there too.
func (p *pool) stranded(s spec) bool {
	for _, proc := range p.idle[s] {
		if proc.channel != nil || proc.waits() {
			return false
		}
	}
	return p.r.channels.anyFree()
}

// waiters counts those in sessions of their own that are logged in.
func (p *pool) waiters(s spec) (n int) {
	for _, proc := range p.idle[s] {
		if proc.channel == nil && proc.waits() {
			n++
		}
	}
	return n
}

// inShells counts those that go through one.
func (p *pool) inShells(s spec) (n int) {
	for _, proc := range p.idle[s] {
		if proc.channel != nil && proc.alive() {
			n++
		}
	}
	return n
}

// reserve has shells wait at the other host for the next load, once those that
// wait in sessions have found room there.
func (p *pool) reserve(ctx context.Context) {
	p.mu.Lock()
	s, now := p.policy.everyday, time.Now()
	keep := p.policy.keep(s, now)
	wanted := p.swaps(s, now) && keep > 0 && p.waiters(s) >= keep
	p.mu.Unlock()
	if wanted && p.r.channels.fewerThan(maxRunning) {
		p.wantShell(ctx, now)
	}
}
