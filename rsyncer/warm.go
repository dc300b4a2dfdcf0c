package rsyncer

import (
	"context"
	"sync"
	"time"

	"github.com/fastsync/fastsync"
)

// everyday is the run of almost every batch; the pool has it ready at the start.
func (r *Rsyncer) everyday() spec {
	if r.cfg.Delete {
		return spec{entries, true, r.cfg.MaxDelete}
	}
	return spec{entries, false, -1}
}

// pool keeps rsyncs that are started, logged in, and wait for their list.
type pool struct {
	r    *Rsyncer
	wake chan struct{}

	// The mutex is for Sync, which takes what run starts. Nothing slow is done
	// under it: a batch may want it.
	mu      sync.Mutex
	running bool
	policy  policy
	idle    map[spec][]*process // oldest first
	hold    time.Time           // a run that needs room is starting
	working int                 // batches that have asked for one and are not done
	taken   time.Time           // when a batch last asked or was done
	pressed bool                // the one before was so shortly before

	waiting sync.WaitGroup // for all that run starts, and what Sync does while it runs
}

func newPool(r *Rsyncer) *pool {
	return &pool{r: r, wake: make(chan struct{}, 1), idle: map[spec][]*process{}}
}

// run keeps what the policy says ready until ctx ends.
func (p *pool) run(ctx context.Context) {
	defer func() {
		p.waiting.Wait()
		p.r.channels.closeAll(time.Time{})
	}()
	p.begin(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.running = false
			p.mu.Unlock()
			for _, proc := range p.yield() {
				p.waiting.Go(proc.release)
			}
			return
		case <-p.wake:
		case <-timer.C:
		}
		next, missing := p.tend(time.Now())
		p.fill(ctx, missing)
		p.reserve(ctx)
		timer.Reset(time.Until(next))
	}
}

func (p *pool) begin(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.r.everyday()
	p.policy = policy{limits: p.r.limits, everyday: s, most: p.r.cfg.Warm, used: map[spec]time.Time{s: now}}
	p.running = true
}

func (p *pool) rouse() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyhow
	}
}

// adopt looks after a process to its end.
func (p *pool) adopt(proc *process) {
	p.waiting.Go(func() {
		<-proc.ended
		if proc.channel != nil {
			p.r.channels.giveBack(proc.channel, proc.res)
		}
		p.rouse()
	})
}

// tend takes out what has ended or is not to be kept, and returns what is
// missing, and when to look again.
func (p *pool) tend(now time.Time) (next time.Time, missing []want) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learn(now)
	next = now.Add(p.policy.idle)
	for s := range p.idle {
		if until := p.weed(s, now); !until.IsZero() {
			next = soonest(next, until)
		}
	}
	next = soonest(next, p.policy.forget(now)) // last: weed may have put off the next start
	if now.Before(p.hold) {
		return soonest(next, p.hold), nil
	}
	if now.Before(p.policy.notUntil) || p.r.hopeful(fastsync.Live) {
		return next, nil // the share says when it is done
	}
	for s := range p.policy.used {
		some, until := p.missing(s, now)
		missing, next = append(missing, some...), soonest(next, until)
	}
	if p.policy.failures >= hopeless && len(missing) > 1 {
		missing = missing[:1] // one to see whether it is any use
	}
	return next, missing
}

// learn makes what became of those that wait known to the policy: what keeps
// ending by itself is not worth a login each time, and what was refused for want
// of room tells how much there is.
func (p *pool) learn(now time.Time) {
	var dead *process
	refused, alive := 0, 0
	for _, procs := range p.idle {
		for _, proc := range procs {
			switch {
			case !proc.alive():
				dead = proc
			case proc.refused.Swap(false):
				refused++
			default:
				alive++
			}
		}
	}
	if dead != nil {
		p.policy.failed(now, p.policy.limits)
		p.r.cfg.Log.Debug().Str("err", cause(dead.res.notes)).Int("code", dead.res.code).Msg("an rsync that was kept ready has ended")
		if limited(dead.res.notes) {
			p.crowded(alive, now, p.policy.respite)
		}
	}
	if refused > 0 { // each has logged in by itself, which is as good, but not for every batch
		p.r.channels.noMore(now)
		p.crowded(max(1, alive), now, p.policy.respite)
	}
}

// weed drops those of a kind that have ended, are too old, too many or in
// another directory, and returns when the next is too old.
func (p *pool) weed(s spec, now time.Time) (next time.Time) {
	most := p.policy.keep(s, now)
	apart, shells := most, most // in sessions of their own, and in shells
	if p.swaps(s, now) {
		shells -= p.waiters(s)
	} else {
		apart -= p.inShells(s) // which cost no login
	}
	kept := p.idle[s][:0]
	for _, proc := range p.idle[s] {
		left := &apart
		if proc.channel != nil {
			left = &shells
		}
		switch {
		case !proc.alive():
		case *left <= 0 || !now.Before(proc.until):
			p.waiting.Go(proc.release)
		case !p.r.inPlace(proc):
			p.policy.failed(now, p.policy.limits) // the next may be no better
			p.waiting.Go(proc.release)
		default:
			*left--
			kept = append(kept, proc)
			if next.IsZero() || proc.until.Before(next) {
				next = proc.until
			}
		}
	}
	clear(p.idle[s][len(kept):])
	if p.idle[s] = kept; len(kept) == 0 {
		delete(p.idle, s)
	}
	return next
}

// fill starts what is missing, each in a shell that waits at the other host
// where there can be one.
func (p *pool) fill(ctx context.Context, missing []want) {
	for _, w := range missing {
		s, ch := w.spec, (*channel)(nil)
		if !w.apart {
			var wait bool
			if ch, wait = p.shell(ctx); wait {
				continue // whoever has one gives it back, and wakes run
			}
		}
		proc, err := p.r.prestart(s, ch)
		p.mu.Lock()
		held := time.Now().Before(p.hold)
		switch {
		case err != nil:
			p.policy.failed(time.Now(), p.policy.limits)
			p.r.cfg.Log.Debug().Err(err).Msg("no rsync can be kept ready")
		case held: // it was asked for its place while it started
			p.waiting.Go(proc.release)
		default:
			p.idle[s] = append(p.idle[s], proc)
		}
		if err == nil {
			p.adopt(proc)
		} else if ch != nil {
			p.waiting.Go(func() { p.r.channels.giveBack(ch, result{code: -1}) })
		}
		p.mu.Unlock()
		p.rouse() // to look when this is too old, or when to try again
		if err != nil || held {
			return
		}
	}
}

// shell is one that waits, or none; then wait says that there will be one.
func (p *pool) shell(ctx context.Context) (ch *channel, wait bool) {
	if ch = p.r.channels.take(); ch != nil {
		return ch, false
	}
	return nil, p.wantShell(ctx, time.Now())
}

// wantShell opens one more if there is room, and tells whether there will be one.
func (p *pool) wantShell(ctx context.Context, now time.Time) (wait bool) {
	wait, open := p.r.channels.wanted(now)
	if open {
		p.waiting.Go(func() {
			p.r.channels.open(ctx)
			p.rouse()
		})
	}
	return wait
}

// yield hands out all that wait.
func (p *pool) yield() (all []*process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, procs := range p.idle {
		all = append(all, procs...)
	}
	clear(p.idle)
	return all
}

// served says that one that was kept ready did its work.
func (p *pool) served() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy.succeeded()
}

// failed says that one was dead when it was needed.
func (p *pool) failed(res result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy.failed(time.Now(), p.policy.limits)
	p.r.cfg.Log.Debug().Str("err", cause(res.notes)).Int("code", res.code).Msg("an rsync that was kept ready was dead; its batch goes to a new one")
}

// reached says that a new one got through: there is no reason to wait any more.
func (p *pool) reached() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.policy.excuse() {
		p.rouse()
	}
}
