package subscriber

import "time"

// orphaned is how long events may be pending in Redis that this process does not
// hold, before it takes them over. Another process of the same target may have
// them: it has then delivered them for nothing if it is at work, which costs a
// look, and not lost them if it is dead.
const orphaned = 20 * time.Second

// since is when something began that still goes on; zero while it does not.
type since struct{ time.Time }

// longer tells whether something has gone on for so long, and then begins anew.
func (s *since) longer(on bool, patience time.Duration) bool {
	now := time.Now()
	switch {
	case !on:
		s.Time = time.Time{}
	case s.IsZero():
		s.Time = now
	case now.Sub(s.Time) >= patience:
		s.Time = time.Time{}
		return true
	}
	return false
}
