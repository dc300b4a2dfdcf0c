package subscriber

import (
	"time"

	"github.com/fastsync/fastsync"
)

// maxLate bounds what is shipped once more path by path; for more a sweep compares.
const maxLate = 50_000

// late holds what was delivered while the other end of a run that broke may have put
// an older version there afterwards: each is shipped once more when that is over.
type late struct {
	due   map[fastsync.Change]time.Time
	turn  time.Time // when to look at due; zero while it is empty
	until time.Time // what is delivered before is late, since the last process died with its runs
}

// note notes what was delivered.
func (t *late) note(change fastsync.Change, now time.Time) (full bool) {
	if len(t.due) == maxLate {
		return true
	}
	if len(t.due) == 0 {
		t.due, t.turn = map[fastsync.Change]time.Time{}, now.Add(fastsync.LateFor)
	}
	t.due[change] = now.Add(fastsync.LateFor)
	return false
}

// shipLate puts what is due on the bulk lane, and returns when to look again.
func (l *loop) shipLate(now time.Time) time.Time {
	t := &l.late
	if t.turn.IsZero() || now.Before(t.turn) {
		return t.turn
	}
	for change, due := range t.due {
		if !due.After(now) {
			delete(t.due, change)
			l.put(&item{change: change, since: now, due: now, bulk: true})
		}
	}
	t.turn = time.Time{}
	if len(t.due) > 0 {
		t.turn = now.Add(fastsync.LateFor / 4)
	}
	return t.turn
}
