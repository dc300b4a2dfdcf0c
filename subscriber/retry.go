package subscriber

import (
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
	for _, it := range done.all() {
		l.again(it, now, delay(recordFirst, recordMost, l.unrecordedRuns))
	}
}

func (l *loop) failedRun(r result, now time.Time) {
	l.failures++
	l.notUntil = now.Add(backoffFor(fastsync.ClassOf(r.err), l.failures))
	for _, it := range r.batch {
		it.cut = true
		l.again(it, now, 0)
	}
	if l.state.Why != r.err.Error() && !l.ending {
		l.state.Why = r.err.Error()
		if l.state.SweepFault == l.state.Why {
			return // the sweep has told it
		}
		l.log.Error().Err(r.err).Int("paths", len(r.batch)).Time("again", l.notUntil).Msg("the target takes nothing; trying again")
	}
}

func (l *loop) recoveredRun() {
	if l.failures > 0 {
		l.log.Info().Int("failures", l.failures).Msg("recovered: the target takes files again")
	}
	l.failures, l.notUntil, l.state.Why = 0, time.Time{}, ""
}
