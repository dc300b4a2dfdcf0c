package rsyncer

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// kinds are how many of those that are ready have a session of their own, in which
// they are logged in, and how many a shell.
func kindsOf(r *Rsyncer) (apart, shells int) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for _, procs := range r.pool.idle {
		for _, p := range procs {
			switch {
			case p.channel != nil:
				shells++
			case p.waits():
				apart++
			}
		}
	}
	return apart, shells
}

func TestSessionsInCalmAndShellsUnderLoad(t *testing.T) {
	r, target, _ := overSSH(t, nil)
	rested := func() bool { apart, shells := kindsOf(r); return apart == 2 && shells == 0 && free(r) == maxRunning }
	eventually(t, "two sessions and two shells wait", rested)
	for i := range 3 {
		arrives(t, r, r.cfg.Source, target, fmt.Sprint(i))
	}
	r.pool.mu.Lock()
	pressed := r.pool.pressed
	r.pool.mu.Unlock()
	if pressed {
		eventually(t, "a shell has one ready, or it is calm again", func() bool { _, shells := kindsOf(r); return shells > 0 || rested() })
	}
	eventually(t, "sessions take over", rested)
}

// The entry that tells when an rsync waits means nothing to it.
func TestTheMarkOfAListIsNoFile(t *testing.T) { // fact 1
	for _, remove := range []bool{false, true} {
		targets(t, func(t *testing.T, cfg Config, target string) {
			cfg.Delete = remove
			write(t, cfg.Source, "#", "x")
			write(t, target, "# at the target", "x")
			r := open(t, cfg)
			running(t, r)
			ready(t, r, 2)
			arrives(t, r, cfg.Source, target, "a")
			if read(target, "#") != "missing" || read(target, "# at the target") != "x" {
				t.Errorf("# is %q", read(target, "#"))
			}
			must(t, os.Remove(filepath.Join(cfg.Source, "#")))
			write(t, target, "#", "of the target")
			ready(t, r, 2)
			arrives(t, r, cfg.Source, target, "b")
			if read(target, "#") != "of the target" {
				t.Error("# was deleted at the target")
			}
		})
	}
}

func TestOneWaitsOnceItIsLoggedIn(t *testing.T) {
	cfg := setup(t)
	gate := filepath.Join(t.TempDir(), "open")
	cfg.RsyncPath = script(t, `while [ ! -e `+gate+` ]; do sleep 0.01; done; exec `+need(t, "rsync")+` "$@"`)
	r := open(t, cfg)
	p, err := r.prestart(r.everyday(), nil)
	must(t, err)
	if p.waits() {
		t.Error("it waits before it runs")
	}
	write(t, filepath.Dir(gate), "open", "")
	eventually(t, "it waits", p.waits)
	p.release()
	if p.waits() || p.res.code != 0 {
		t.Errorf("it has ended: %+v", p.res)
	}
}

func TestWhatIsStartedWhen(t *testing.T) {
	r, _, stop := overSSH(t, nil)
	eventually(t, "two sessions and two shells wait", func() bool {
		apart, shells := kindsOf(r)
		return apart == 2 && shells == 0 && free(r) == maxRunning
	})
	p, s, now := r.pool, r.everyday(), time.Now()
	p.mu.Lock()
	all := p.idle[s]
	check := func(what string, apart, inShells int) {
		missing, _ := p.missing(s, now)
		for _, w := range missing {
			if w.apart {
				apart--
			} else {
				inShells--
			}
		}
		if apart != 0 || inShells != 0 {
			t.Errorf("%s: %v", what, missing)
		}
	}
	check("at rest", 0, 0)
	p.idle[s] = all[:1]
	p.taken = now
	check("after a single file", 0, 0)
	late, err := r.prestart(s, nil)
	must(t, err)
	signal(t, syscall.SIGSTOP, late.pid)
	p.idle[s] = []*process{late}
	check("after two, while the next one logs in", 0, 1)
	late.kill(errReleased)
	p.idle[s] = all[:1]
	p.pressed = true
	check("under load", 0, 1)
	p.taken, p.pressed, p.working = now.Add(-10*calm), false, 1
	check("while one works for long", 0, 1)
	p.working, p.pressed = 0, true
	check("calm again", 1, 0)
	bulk := r.shares[fastsync.Bulk]
	use := func(n int) { bulk.mu.Lock(); bulk.users += n; bulk.mu.Unlock() }
	use(1)
	check("while bulk ships", 0, 1)
	p.pressed, p.working, p.taken = false, 1, now
	check("while bulk ships, and a single file", 0, 0)
	use(-1)
	p.pressed, p.working, p.taken = true, 0, now.Add(-10*calm)
	check("and after it", 1, 0)
	p.policy.fewer = now.Add(time.Hour)
	check("where there is little room", 0, min(1, p.policy.allowed))
	p.policy.fewer, p.idle[s] = time.Time{}, all
	p.mu.Unlock()
	stop()
}

// A login takes a tenth of a second and more; a shell that waits takes none.
func TestAShellComesBeforeALogin(t *testing.T) {
	r, _, _ := overSSH(t, nil)
	s := r.everyday()
	eventually(t, "two sessions and two shells wait", func() bool {
		apart, shells := kindsOf(r)
		return apart == 2 && shells == 0 && free(r) == maxRunning
	})
	late, err := r.prestart(s, nil)
	must(t, err)
	signal(t, syscall.SIGSTOP, late.pid)
	defer late.kill(errReleased)
	r.pool.mu.Lock()
	all := r.pool.idle[s]
	r.pool.idle[s] = []*process{late}
	r.pool.mu.Unlock()
	for _, p := range all {
		p.release()
	}
	if p := r.pool.take(t.Context(), s); p == nil || p.channel == nil {
		t.Errorf("took %+v, want one in a shell", p)
	} else {
		p.release()
	}
	r.pool.done()
}

// Most runs are shorter than a login.
func TestABatchWaitsForAShellThatIsInUse(t *testing.T) {
	r, _, _ := overSSH(t, nil)
	s, c := r.everyday(), r.channels
	eventually(t, "two shells wait", func() bool { return free(r) == maxRunning })
	first, second := c.take(), c.take()
	if ch := c.await(t.Context(), time.Millisecond); ch != nil {
		t.Error("there is a third")
	}
	r.pool.mu.Lock()
	all := r.pool.idle[s]
	delete(r.pool.idle, s)
	r.pool.mu.Unlock()
	for _, p := range all {
		p.release()
	}
	got := make(chan *channel)
	for range 2 {
		go func() { got <- c.await(t.Context(), time.Minute) }()
	}
	for _, ch := range []*channel{first, second} {
		c.mu.Lock()
		c.free = append(c.free, ch) // as giveBack does for one whose rsync has ended
		c.mu.Unlock()
	}
	c.tell()
	for range 2 {
		ch := <-got
		if ch == nil {
			t.Fatal("it was not awaited")
		}
		defer func() { c.mu.Lock(); c.free = append(c.free, ch); c.mu.Unlock() }()
	}
}

// What runs for long is no calm, and calm begins when it ends.
func TestPressure(t *testing.T) {
	p := open(t, setup(t)).pool
	s := p.r.everyday()
	p.asked(s)
	if p.pressed {
		t.Error("pressed by the first batch")
	}
	p.taken = time.Now().Add(-10 * calm)
	p.asked(s)
	if !p.pressed {
		t.Error("not pressed while another batch works")
	}
	p.done()
	p.done()
	if p.working != 0 || time.Since(p.taken) > time.Minute {
		t.Errorf("%d at work, the last was done %v ago", p.working, time.Since(p.taken))
	}
	p.taken = time.Now().Add(-10 * calm)
	p.asked(s)
	if p.pressed {
		t.Error("pressed though it was calm")
	}
}
