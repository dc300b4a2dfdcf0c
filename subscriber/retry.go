package subscriber

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/fastsync/fastsync"
)

// Bounds of the backoff, doubled at each try.
const (
	againFirst, againMost         = 50 * time.Millisecond, 2 * time.Second // the file changed during the run
	againFor                      = time.Minute                            // in all, then the path is listed as failed
	restlessMost                  = 30 * time.Second                       // and tried so often
	pathFirst, pathMost           = 5 * time.Second, 10 * time.Minute      // one path is refused
	transientFirst, transientMost = 500 * time.Millisecond, 30 * time.Second
	fullFirst, fullMost           = 5 * time.Second, 2 * time.Minute
	personFirst, personMost       = 5 * time.Second, 5 * time.Minute
	recordFirst, recordMost       = time.Second, 10 * time.Second // redis does not take how a batch ended
)

// maxFailed bounds the paths that are listed as failed and tried again.
const maxFailed = 100_000

// backoffFor returns how long to wait after the n-th failure in a row of a
// whole run, n counted from 1.
func backoffFor(class fastsync.Class, n int) time.Duration {
	switch class {
	case fastsync.Full:
		return delay(fullFirst, fullMost, n)
	case fastsync.Person:
		return delay(personFirst, personMost, n)
	default:
		return delay(transientFirst, transientMost, n)
	}
}

// delay doubles from first to most and takes up to a quarter off at random,
// so that targets that failed together do not come back together.
func delay(first, most time.Duration, n int) time.Duration {
	d := first << min(max(n-1, 0), 20)
	if d > most || d <= 0 {
		d = most
	}
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}

// unrecorded has a batch go round again whose end redis did not take. The first
// of a row is told.
func (l *loop) unrecorded(err error, done sorted, now time.Time) {
	if l.unrecordedRuns++; l.unrecordedRuns == 1 {
		l.log.Warn().Err(err).Msg("could not record a batch in redis; it goes round again until redis takes that")
	}
	if errors.Is(err, ErrServed) {
		l.dirty, l.beat = true, time.Time{} // the next word to redis tells the loop
	}
	for _, it := range done.all() {
		l.again(it, now, delay(recordFirst, recordMost, l.unrecordedRuns))
	}
}

// failedRun has a batch go round again. Each lane has its own backoff: a video that
// has no room keeps no photo away.
func (l *loop) failedRun(r result, now time.Time) {
	on, why := r.lane, r.err.Error()
	on.failures++
	on.class = fastsync.ClassOf(r.err)
	on.notUntil = now.Add(backoffFor(on.class, on.failures))
	for _, it := range r.batch {
		it.cut = true
		l.again(it, now, 0)
	}
	if l.ending || on.why == why {
		return
	}
	known := l.live.why == why || l.bulk.why == why || l.state.SweepFault == why // and told
	on.why = why
	l.state.Why = cmp.Or(l.live.why, l.bulk.why)
	if !known {
		l.log.Error().Err(r.err).Int("paths", len(r.batch)).Time("again", on.notUntil).Msg("the target takes nothing; trying again")
	}
}

// recoveredRun notes that a run of a lane has succeeded. The other lane tries again
// at once, unless what it ships has no room.
func (l *loop) recoveredRun(on *lane) {
	if on.failures == 0 {
		return
	}
	failures := on.failures
	on.failures, on.notUntil, on.why = 0, time.Time{}, ""
	l.state.Why = cmp.Or(l.live.why, l.bulk.why)
	for _, other := range []*lane{l.live, l.bulk} {
		if other.class != fastsync.Full {
			other.notUntil = time.Time{}
		}
	}
	if l.live.failures+l.bulk.failures == 0 {
		l.log.Info().Int("failures", failures).Msg("recovered: the target takes files again")
	}
}
