package rsyncer

import "time"

// flight is for how long at least a file that was read counts as on its way: rsync
// does not say when the other end has given it its name. A slower link may take
// longer, and then the file's change, which goes round once more, puts it right.
const flight = time.Second

// flying are the files that an rsync has read, and may not have put in their place.
type flying struct {
	reading        string // what it opened last and has not closed
	recent, before map[string]bool
	turned         time.Time // when before was recent
}

func (f *flying) reads(p string, now time.Time) {
	f.lands(now)
	f.reading = p
}

// lands follows once the file that it reads is closed.
func (f *flying) lands(now time.Time) {
	f.turn(now)
	if f.reading != "" {
		f.recent[f.reading] = true
		f.reading = ""
	}
}

func (f *flying) has(p string, now time.Time) bool {
	f.turn(now)
	return f.reading == p || f.recent[p] || f.before[p]
}

// turn forgets what was read one to two times flight ago.
func (f *flying) turn(now time.Time) {
	switch since := now.Sub(f.turned); {
	case since < flight:
		return
	case since < 2*flight:
		f.before = f.recent
	default:
		f.before = nil
	}
	f.recent, f.turned = map[string]bool{}, now
}
