package rsyncer

import (
	"errors"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// The other end of a run that broke may put what it got there later, after those of
// the next run: until then the target is told to be late.
func TestTheOtherEndOfABrokenRunMayBeLate(t *testing.T) {
	for _, tt := range []struct {
		target string
		res    result
		late   bool
	}{
		{"web1:/srv", result{code: -1, err: errWanted}, true},
		{"web1:/srv", result{code: -1, err: errStalled, items: 3}, true},
		{"web1:/srv", result{code: 12, items: 3}, true},
		{"rsync://web1/mod", result{code: 10, items: 1}, true},
		{"web1:/srv", result{code: 255}, false}, // it got nothing
		{"web1:/srv", result{code: exitPartial, items: 3}, false},
		{"/srv", result{code: -1, err: errors.New("killed"), items: 3}, false}, // it died with the run
	} {
		r := &Rsyncer{target: tt.target}
		if r.late() {
			t.Errorf("%s is late before its first run", tt.target)
		}
		r.parted(tt.res)
		if r.late() != tt.late {
			t.Errorf("%s after %+v: late %v", tt.target, tt.res, r.late())
		}
		if long := time.Now().Add(-fastsync.LateFor); tt.late {
			if r.broke.Store(&long); r.late() {
				t.Errorf("%s is late for ever", tt.target)
			}
		}
	}
}
