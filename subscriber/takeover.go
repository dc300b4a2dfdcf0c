package subscriber

import "time"

// orphaned is how long events may be pending in Redis that this process does not
// hold, before it takes them over: a read of the process that served the target
// before may have got them after this one had begun. It is shorter than a read that finds
// nothing: who is at rest sees them at the end of one, as of its beginning.
const orphaned = 15 * time.Second

// since is when something began that still goes on; zero while it does not.
type since struct{ time.Time }

// longer tells whether something that was so at a time has gone on for so long by
// now, and then begins anew.
func (s *since) longer(on bool, at time.Time, patience time.Duration) bool {
	if !on {
		s.Time = time.Time{}
		return false
	}
	if s.IsZero() {
		s.Time = at
	}
	if time.Since(s.Time) < patience {
		return false
	}
	s.Time = time.Time{}
	return true
}
