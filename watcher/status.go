package watcher

import "time"

// patient is how long Status waits for a loop that is busy with a slow disk.
const patient = time.Second

// Status returns the present state; of a loop that is stuck or has ended, the
// last one known.
func (w *Watcher) Status() Status {
	select {
	case <-w.started:
		reply := make(chan Status, 1)
		select {
		case w.asked <- reply:
			return <-reply
		case <-w.ended:
		case <-time.After(patient):
		}
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// listened moves good on: nothing came for a tick, so the kernel's queue was
// empty when that began. It needs no timer: who wants to know asks, and what
// comes after a silence tells of it. It tells whether there was one.
func (l *loop) listened(now time.Time) bool {
	if now.Sub(l.heard) < tick {
		return false
	}
	l.read(l.heard)
	l.heard, l.echo.asked = now, nil
	return true
}

// read moves good on: every event of the kernel up to then was read.
func (l *loop) read(until time.Time) {
	if until.After(l.good) {
		l.good = until
	}
	l.others.forget(until)
}

// answer tells how things are now.
func (l *loop) answer(watching bool) Status {
	now := time.Now()
	if !l.listened(now) && l.tree.kernel != nil {
		l.echo.ask(l.tree.kernel, now) // for who asks next
	}
	if watching {
		l.checkRoot()
	}
	return l.report()
}

// report renews what Status returns.
func (l *loop) report() Status {
	checkpoint := l.tree.walking(l.oldest(l.good))
	if !l.others.since.IsZero() && l.others.since.Before(checkpoint) {
		checkpoint = l.others.since
	}
	if (l.rewalking || len(l.tree.bare) > 0) && l.walked.Before(checkpoint) {
		checkpoint = l.walked // what changed in them since is not known yet
	}
	if l.again != nil && l.again.Before(checkpoint) {
		checkpoint = *l.again
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	s := &l.w.status
	s.Watched, s.Unwatched = l.tree.known.count-len(l.tree.bare), len(l.tree.bare)
	s.Reason, s.RootError, s.Pending = l.tree.reason, l.rootError, len(l.probing)
	if l.fan != nil {
		s.Unwatched, s.Reason = len(l.beneath), unseen(l.beneath)
	}
	for _, since := range l.w.owed {
		if since.Before(checkpoint) {
			checkpoint = since
		}
	}
	for _, f := range l.w.open {
		if f.since.Before(checkpoint) {
			checkpoint = f.since
		}
	}
	if !l.w.missed.IsZero() && l.w.missed.Before(checkpoint) {
		checkpoint = l.w.missed
	}
	if l.w.caught && l.root != nil {
		// A change is older than the event that tells of it.
		s.Checkpoint = checkpoint.Add(-margin)
	}
	return *s
}
