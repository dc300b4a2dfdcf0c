package rsyncer

import (
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func newPolicy(now time.Time) *policy {
	s := spec{entries, true, 1000}
	return &policy{limits: usual, everyday: s, most: 2, used: map[spec]time.Time{s: now}}
}

func TestKeptWhileItPays(t *testing.T) {
	now := time.Now()
	p := newPolicy(now)
	rare := spec{listings, true, 1000}
	for _, step := range []struct {
		after      time.Duration
		want       bool // a batch wants a rare one
		most, rare int
	}{
		{0, false, 2, 0}, {time.Minute, true, 2, 1}, {4 * time.Minute, false, 2, 1}, {2 * time.Minute, false, 2, 0},
		{52 * time.Minute, false, 2, 0}, {2 * time.Minute, false, 0, 0}, {8 * time.Hour, false, 0, 0},
	} {
		if now = now.Add(step.after); step.want {
			p.wanted(rare, now)
		}
		if next := p.forget(now); !next.After(now) {
			t.Fatalf("at %v it wants to be asked again at once", now)
		}
		if a, b := p.keep(p.everyday, now), p.keep(rare, now); a != step.most || b != step.rare {
			t.Errorf("after %v: %d and %d, want %d and %d", step.after, a, b, step.most, step.rare)
		}
	}
	if p.wanted(p.everyday, now); p.keep(p.everyday, now) != 2 {
		t.Error("a batch after a night does not fill the pool")
	}
}

// There is a count of deletions left for each number up to the brake.
func TestNoneIsKeptForEachCountOfDeletions(t *testing.T) {
	now := time.Now()
	p := newPolicy(now)
	for left := range 1000 {
		p.wanted(spec{deletes, true, left}, now)
		p.wanted(spec{listingPrunes, true, left}, now)
	}
	for k := range kinds {
		p.wanted(spec{k, true, 1000}, now)
		p.wanted(spec{k, true, -1}, now)
	}
	if len(p.used) != 2*int(kinds) {
		t.Errorf("%d kinds are kept ready", len(p.used))
	}
	if p.forget(now.Add(2 * usual.learned)); len(p.used) != 1 {
		t.Errorf("%d kinds are kept ready long after they were used", len(p.used))
	}
}

func TestFewerWhereThereIsNoRoom(t *testing.T) {
	now := time.Now()
	p := newPolicy(now)
	p.wanted(spec{trees, true, 1000}, now)
	p.crowded(1, now, usual.respite)
	if p.keep(p.everyday, now) != 1 || p.keep(spec{trees, true, 1000}, now) != 0 {
		t.Error("it goes on where there is no room")
	}
	p.crowded(0, now, usual.respite)
	p.crowded(1, now, usual.respite) // a smaller one said so
	if p.keep(p.everyday, now) != 0 {
		t.Error("it forgets how little room there is")
	}
	if next := p.forget(now); next.After(now.Add(usual.respite)) {
		t.Errorf("it looks again only after %v", next.Sub(now))
	}
	if now = now.Add(usual.respite); p.keep(p.everyday, now) != 2 {
		t.Error("it never tries again")
	}
}

// What fails is tried a dozen times in the first hour and then each 5 minutes.
func TestNoLoginStorm(t *testing.T) {
	now, tries := time.Now(), 0
	p := newPolicy(now)
	for end := now.Add(time.Hour); now.Before(end); tries++ {
		p.failed(now, p.limits)
		if p.notUntil.Sub(now) < p.first*3/4 || p.notUntil.Sub(now) > p.limits.most {
			t.Fatalf("a pause of %v", p.notUntil.Sub(now))
		}
		now = p.notUntil
	}
	if tries > 26 {
		t.Errorf("%d tries in an hour", tries)
	}
	if !p.excuse() || now.Before(p.notUntil) || p.failures != 0 {
		t.Error("a target that is back is not tried at once")
	}
}

// One that always ends early is not started anew for each batch.
func TestPardonsEnd(t *testing.T) {
	now := time.Now()
	p, tries := newPolicy(now), 0
	for range 100 { // batches within a second, each in an rsync of its own
		if now = now.Add(10 * time.Millisecond); !now.Before(p.notUntil) {
			p.failed(now, p.limits)
			tries++
		}
		p.excuse()
	}
	if tries > pardons+2 {
		t.Errorf("%d tries in a second", tries)
	}
	if p.succeeded(); p.pardoned != 0 {
		t.Error("a success is not remembered")
	}
}

func TestAConnectionInUseIsNotIdle(t *testing.T) {
	r := &Rsyncer{limits: usual}
	r.pool = newPool(r)
	for lane, patience := range map[fastsync.Lane]time.Duration{fastsync.Live: usual.idle, fastsync.Bulk: usual.learned} {
		s := &share{r: r, lane: lane, used: time.Now(), state: make(chan struct{}), want: make(chan struct{}, 1)}
		r.shares = map[fastsync.Lane]*share{lane: s}
		done := r.use(t.Context(), lane)
		if s.unused(time.Now().Add(10 * patience)) {
			t.Errorf("%s: a run of many hours loses its connection", lane)
		}
		if done(); s.unused(time.Now().Add(patience-time.Minute)) || !s.unused(time.Now().Add(patience+time.Minute)) {
			t.Errorf("%s: it does not end after %v", lane, patience)
		}
	}
}

func TestStale(t *testing.T) {
	for _, c := range []struct {
		res  result
		want bool
	}{
		{result{code: exitOK}, false}, {result{code: exitPartial, items: 1}, false}, {result{code: 11}, false},
		{result{code: exitPartial, notes: []string{`rsync: change_dir "/root" failed`}}, true},
		{result{code: 12}, true}, {result{code: 255, items: 9}, true}, {result{code: 2}, true},
		{result{code: -1, err: errStalled}, true},
	} {
		if stale(c.res) != c.want {
			t.Errorf("%+v: want %v", c.res, c.want)
		}
	}
}

func TestWordsThatShareByThemselves(t *testing.T) {
	for rsh, shares := range map[string]bool{
		"ssh": true, "/usr/bin/ssh -p 22 -i '/a b/Mine'": true, "ssh -iS -lM -oPort=22 -4": true,
		"ssh -o ControlPath=/x": false, "ssh -ocontrolmaster=auto": false, "ssh -S /x": false, "ssh -S/x": false,
		"ssh -M": false, "ssh -4MTp 22": false, "rsh": false, "sshpass -e ssh": false, "ssh 'unclosed": false,
	} {
		r := &Rsyncer{cfg: Config{Rsh: rsh}, target: "www@[::1]:/srv/"}
		if got := r.sshCommand(); (got != nil) != shares {
			t.Errorf("%s: %q", rsh, got)
		} else if got != nil && got[len(got)-1] != "::1" {
			t.Errorf("%s: the host is %q", rsh, got[len(got)-1])
		}
	}
}
