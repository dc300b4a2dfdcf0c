package rsyncer

import (
	"context"
	"slices"
	"time"
)

// take returns one that waits for its list, or that starts at once in a shell
// which waits or soon will, or one that has still to log in, or nil. What it is
// asked for is kept ready from then on. Each take is followed by a [pool.done].
func (p *pool) take(ctx context.Context, s spec) *process {
	if !p.asked(s) {
		return nil
	}
	if proc := p.pick(s, usable); proc != nil {
		return proc
	}
	if ch := p.r.channels.await(ctx, calm); ch != nil {
		proc, err := p.r.prestart(s, ch)
		if err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.adopt(proc)
			return proc
		}
		p.r.channels.giveBack(ch, result{code: -1})
	}
	return p.pick(s, loggingIn)
}

// asked notes that a batch wants one, and tells whether there can be any.
func (p *pool) asked(s spec) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.pressed, p.taken = p.working > 0 || now.Before(p.taken.Add(calm)), now
	p.working++
	if p.running {
		p.policy.wanted(s, now)
		p.rouse()
	}
	return p.running
}

// done says that a batch that asked for one needs it no more.
func (p *pool) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working--
	p.taken = time.Now()
	p.rouse()
}

// pick takes out the one that is soonest at work.
func (p *pool) pick(s spec, least readiness) (proc *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := -1
	for i, one := range p.idle[s] {
		if !one.alive() || !p.r.inPlace(one) {
			continue // tend takes it out
		}
		if is := readinessOf(one); is >= least {
			found, least = i, is+1
		}
	}
	if found < 0 {
		return nil
	}
	proc = p.idle[s][found]
	p.idle[s] = slices.Delete(p.idle[s], found, found+1)
	p.rouse()
	return proc
}

// readiness is how soon one that was started is at work.
type readiness int

const (
	loggingIn readiness = iota // which takes a hundred times as long as a file
	usable                     // in a shell, or in a session as far as anybody can tell
	fastest                    // it waits in a session of its own: 1.5 ms faster than through a shell
)

func readinessOf(proc *process) readiness {
	switch {
	case proc.channel != nil || !proc.marked:
		return usable
	case proc.waits():
		return fastest
	}
	return loggingIn
}

// oldest is the one that has waited longest for a list, nil for none.
func (p *pool) oldest(s spec) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.idle[s] {
		if proc.alive() && readinessOf(proc) != loggingIn {
			return proc
		}
	}
	return nil
}
