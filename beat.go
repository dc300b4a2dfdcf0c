package fastsync

import "time"

// Beat is how often whoever runs says so in Redis, and looks at what no event
// tells.
const Beat = 10 * time.Second

// NextBeat is the first beat after now. All beats are at the same moments, so
// that a host at rest wakes once for all of them.
func NextBeat(now time.Time) time.Time {
	return now.Add(Beat - time.Duration(now.UnixNano())%Beat) // on the monotonic clock: the other may be set
}

// BeatWithin is how long to wait now for the last beat that is at most that far
// away; all of it where that is less than from beat to beat.
func BeatWithin(most time.Duration) time.Duration {
	if most < Beat {
		return most
	}
	now := time.Now()
	return NextBeat(now.Add(most - Beat)).Sub(now)
}
