package subscriber

import (
	"time"
)

const (
	// A path that was refused quarantineAfter times, which takes some 20 minutes,
	// is tried once every quarantineEvery, with all others that fare so.
	quarantineAfter = 8
	quarantineEvery = time.Hour
)

// quarantined tells whether a path has failed so often that it waits beside the
// lanes: what stays in them is looked at for each batch. Not a file that never
// rests: to find that out costs a look at it.
func quarantined(f failedPath) bool {
	return f.Tries >= quarantineAfter && !f.Held && f.Why != restless
}

// quarantine keeps a path out of the lanes until the next round of all of them.
// A change of it, or a sweep, has it tried at once.
func (l *loop) quarantine(path string, old, f failedPath, now time.Time) {
	if !old.Quarantined {
		l.log.Warn().Str("path", path).Int("tries", f.Tries).Msg("a path goes into quarantine: it is tried once an hour, and at once when it changes or a sweep finds it")
	}
	if l.round.IsZero() {
		l.round = now.Add(quarantineEvery)
	}
}

// tryQuarantined puts all of quarantine on the bulk lane when it is time, where it
// delays nothing that was made just now, and returns when the next time is.
func (l *loop) tryQuarantined(now time.Time) time.Time {
	if l.round.IsZero() || now.Before(l.round) {
		return l.round
	}
	l.round = time.Time{}
	for change, f := range l.retry {
		if f.Quarantined {
			l.again(&item{change: change, since: now, tries: f.Tries, bulk: true}, now, 0)
		}
	}
	return time.Time{}
}
