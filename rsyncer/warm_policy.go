package rsyncer

import (
	"math/rand/v2"
	"time"
)

// limits are the times that keeping rsyncs and connections goes by.
type limits struct {
	age     time.Duration // how long a started rsync may wait for a list
	module  time.Duration // the same for one that is connected to a daemon
	idle    time.Duration // how long after the last batch rsyncs are kept ready
	learned time.Duration // the same for kinds of run that are not of every day, and for bulk's connection
	respite time.Duration // how long fewer are kept after the other side refused one
	first   time.Duration // the shortest time between two tries of what fails
	most    time.Duration // the longest
}

// usual: the first batch after an hour's pause pays for a start, and a night
// costs no logins; a burst of renames needs its deletions for minutes at most.
// Each that is replaced is a login where the connection cannot be shared, so that
// this is seldom; but a daemon stays in its module's folder, which may have been
// replaced meanwhile.
var usual = limits{
	age: 30 * time.Minute, module: 10 * time.Minute, idle: time.Hour, learned: 5 * time.Minute,
	respite: 10 * time.Minute, first: time.Second, most: 5 * time.Minute,
}

// pardons is how often a success by another way lets something be tried again at
// once that itself has not succeeded in between.
const pardons = 5

// backoff is when to try again what fails.
type backoff struct {
	failures int // in a row
	pardoned int
	notUntil time.Time
}

func (b *backoff) failed(now time.Time, l limits) {
	b.failures++
	pause := min(l.first<<min(b.failures-1, 20), l.most)
	b.notUntil = now.Add(pause - time.Duration(rand.Int64N(int64(pause)/4+1)))
}

func (b *backoff) succeeded() { *b = backoff{} }

// excuse says that the other side was reached by another way, and tells whether
// that changed when to try again.
func (b *backoff) excuse() bool {
	if b.failures == 0 || b.pardoned >= pardons {
		return false
	}
	b.failures, b.notUntil = 0, time.Time{}
	b.pardoned++
	return true
}

// policy decides how many rsyncs are kept ready for which kind of run, and when
// one may be started. It starts none, and knows no time but what it is told.
type policy struct {
	limits
	backoff
	everyday spec // the run of almost every batch
	most     int  // of these; one of each other kind
	used     map[spec]time.Time
	allowed  int // what the other side has room for
	fewer    time.Time
}

// wanted says that a batch wants an rsync of a kind, which is kept ready from
// then on. A run that may delete only what is left of the brake is not: there
// would be one for each number.
func (p *policy) wanted(s spec, now time.Time) {
	if s.limit < 0 || s.limit == p.everyday.limit {
		p.used[s] = now
	}
}

// keep is how many of a kind are to be ready.
func (p *policy) keep(s spec, now time.Time) int {
	used, ok := p.used[s]
	crowded := now.Before(p.fewer)
	switch {
	case !ok || !now.Before(used.Add(p.patience(s))):
		return 0
	case s == p.everyday && crowded:
		return min(p.most, p.allowed)
	case s == p.everyday:
		return p.most
	case crowded:
		return 0
	}
	return 1
}

func (p *policy) patience(s spec) time.Duration {
	if s == p.everyday {
		return p.idle
	}
	return p.learned
}

// crowded says that the other side refused one for want of room, while it had
// room for fit of those that wait.
func (p *policy) crowded(fit int, now time.Time, rest time.Duration) {
	if now.Before(p.fewer) {
		fit = min(fit, p.allowed)
	}
	p.allowed, p.fewer = fit, now.Add(rest)
}

// forget drops what nobody has wanted for long, and returns when the answer of
// keep may change by itself.
func (p *policy) forget(now time.Time) time.Time {
	next := now.Add(p.idle)
	for s, used := range p.used {
		until := used.Add(p.patience(s))
		if now.Before(until) {
			next = soonest(next, until)
		} else if s != p.everyday {
			delete(p.used, s)
		}
	}
	for _, t := range []time.Time{p.fewer, p.notUntil} {
		if now.Before(t) {
			next = soonest(next, t)
		}
	}
	return next
}

func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
