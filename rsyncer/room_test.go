package rsyncer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// everything is a batch, runs of the other lane and a comparison: all succeed.
func everything(t *testing.T, r *Rsyncer, target string) {
	for i := range 2 {
		name := fmt.Sprint(i)
		arrives(t, r, r.cfg.Source, target, "live"+name)
		write(t, r.cfg.Source, "bulk"+name, name)
		same(t, compare(t, r, entry("bulk"+name)), "bulk"+name+" entry")
		clean(t, whole(t, r, fastsync.Bulk, "bulk"+name))
		if read(target, "bulk"+name) != name {
			t.Error("bulk did not arrive")
		}
	}
	clean(t, ship(t, r, entry("keep")))
	same(t, compare(t, r, nil))
	must(t, r.Tidy(context.Background(), nil))
}

// together are batches of both lanes at the same time.
func together(t *testing.T, r *Rsyncer, target string) {
	var batches sync.WaitGroup
	for i, lane := range []fastsync.Lane{fastsync.Live, fastsync.Live, fastsync.Bulk} {
		name := fmt.Sprint("together", i)
		write(t, r.cfg.Source, name, name)
		batches.Go(func() {
			if out := whole(t, r, lane, name); out.Shipped != 1 || read(target, name) != name {
				t.Errorf("%s: %+v", lane, out)
			}
		})
	}
	batches.Wait()
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	for most := 1; most <= 3; most++ {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			cfg := setup(t)
			target := cfg.Target
			cfg.Warm = 2
			cfg.Target = daemonServer(t, target, fmt.Sprintf("max connections = %d\nlock file = %s/lock", most, t.TempDir())) + "mod"
			r := open(t, cfg)
			running(t, r)
			ready(t, r, min(most, 2))
			everything(t, r, target)
			if most == 3 { // as many as run
				together(t, r, target)
			}
			if most > 1 {
				return
			}
			// Where there is room for one, others may need it.
			eventually(t, "none is kept", func() bool { return inReserve(r) == 0 })
			arrives(t, r, cfg.Source, target, "last")
			r.pool.mu.Lock()
			defer r.pool.mu.Unlock()
			if n := r.pool.policy.keep(r.everyday(), time.Now()); n != 0 {
				t.Errorf("%d are kept", n)
			}
		})
	}
}

func TestMaxSessions(t *testing.T) {
	t.Parallel()
	for most := 1; most <= 2; most++ {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			cfg := setup(t)
			target := cfg.Target
			line, rsh := through(t, sshServer(t, fmt.Sprintf("MaxSessions %d", most)))
			cfg.Rsh, cfg.Target, cfg.Warm = rsh, "127.0.0.1:"+target, 2
			r := open(t, cfg)
			running(t, r)
			ready(t, r, most)
			everything(t, r, target)
			together(t, r, target)
			fits := func() bool { n := len(waiting(r)); return n > 0 && n <= most && n == inReserve(r) }
			eventually(t, "no more are kept than there is room for", fits)
			if most == 1 {
				return
			}
			// One works, one waits, both in the connection, be it two shells or one
			// session and the next: which of them it is may take a refusal more to learn.
			logins := int64(1)
			for round := 0; logins > 0 && round < 3; round++ {
				before := line.accepted.Load()
				for i := range 3 {
					arrives(t, r, r.cfg.Source, target, fmt.Sprint("later", round, i))
					eventually(t, "the next one is ready", fits)
				}
				logins = line.accepted.Load() - before
			}
			if logins > 0 {
				t.Errorf("still %d logins for 3 files", logins)
			}
		})
	}
}

func TestMaxStartups(t *testing.T) {
	t.Parallel()
	r, target, _ := overSSH(t, func(cfg *Config) { cfg.Rsh = sshServer(t, "MaxStartups 1:100:1") })
	everything(t, r, target)
	together(t, r, target)
	signal(t, syscall.SIGKILL, masterOf(r, fastsync.Live))
	arrives(t, r, r.cfg.Source, target, "beside a new login")
	ready(t, r, 2)
}

// A server that had no time for a login has room for as many as before.
func TestWhatARefusalTeaches(t *testing.T) {
	r := open(t, setup(t))
	p, s, now := r.pool, r.everyday(), time.Now()
	for _, c := range []struct {
		what string
		made made
		keep int
	}{
		{"busy", made{room: true, had: 2}, 2},
		{"without a word", made{room: true, mute: true, had: 2}, 1},
		{"said so", made{room: true, known: true, had: 1}, 0},
	} {
		p.policy = policy{limits: r.limits, everyday: s, most: 2, used: map[spec]time.Time{s: now}}
		p.roomMade(c.made, true)
		if got := p.policy.keep(s, now); got != c.keep {
			t.Errorf("%s: %d are kept, want %d", c.what, got, c.keep)
		}
	}
}

// A connection that a firewall forgot: no side is told.
func TestABlackHole(t *testing.T) { // fact 3
	t.Parallel()
	cfg := setup(t)
	target := cfg.Target
	var port int
	url := daemonServer(t, target)
	_, err := fmt.Sscanf(url, "rsync://127.0.0.1:%d/", &port)
	must(t, err)
	line, own := newLink(t, port)
	cfg.Target, cfg.Warm, cfg.Stall = fmt.Sprintf("rsync://127.0.0.1:%d/mod", own), 1, 8*time.Second
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 1)
	line.swallow()
	begun := time.Now()
	arrives(t, r, cfg.Source, target, "a")
	if took := time.Since(begun); took >= cfg.Stall {
		t.Errorf("it took %v", took)
	}
}

// A refusal without a word is taken for one for want of room, for a while.
func TestRoomIsMadeForARunThatIsRefusedWithoutAWord(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	dir := t.TempDir()
	cfg.RsyncPath = script(t, `if [ -e `+dir+`/full ] && kill -0 $(cat `+dir+`/pid) 2>/dev/null; then exit 12; fi; echo $$ > `+dir+`/pid; exec rsync "$@"`)
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 2)
	write(t, dir, "full", "")
	clean(t, shipBulk(t, r, entry("keep")))
	if read(cfg.Target, "keep") != "keep" {
		t.Error("it did not arrive")
	}
	r.pool.mu.Lock()
	p, hold := r.pool.policy, r.pool.hold
	r.pool.mu.Unlock()
	if p.allowed != 1 || time.Until(p.fewer) > r.limits.respite/10 || time.Until(hold) > 0 {
		t.Errorf("%d are kept for %v, from %v on", p.allowed, time.Until(p.fewer), time.Until(hold))
	}
}

// An ordinary loss is no want of room: nothing is learned from it.
func TestALossIsNoLimit(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm = 2
	dir := t.TempDir()
	cfg.RsyncPath = script(t, `if [ -e `+dir+`/down ]; then exit 12; fi; exec rsync "$@"`)
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 2)
	write(t, dir, "down", "")
	if _, err := r.Sync(context.Background(), fastsync.Bulk, entry("keep")); fastsync.ClassOf(err) != fastsync.Transient {
		t.Errorf("%v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "down")))
	arrives(t, r, cfg.Source, cfg.Target, "a")
	within(t, 5*time.Second, "two are ready", func() bool { return len(waiting(r)) == 2 })
}

func TestRoomIsMadeWithinABatchThatIsGivenUp(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Warm, cfg.Grace = 1, time.Second
	r := open(t, cfg)
	running(t, r)
	signal(t, syscall.SIGSTOP, ready(t, r, 1)...) // it will not end by itself
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	begun := time.Now()
	if had := r.pool.makeRoom(ctx); had != 1 || time.Since(begun) > cfg.Grace*7/4 {
		t.Errorf("%d after %v", had, time.Since(begun))
	}
}

func TestWhatSaysThatThereIsNoRoom(t *testing.T) {
	for note, want := range map[string]string{
		"@ERROR: max connections (1) reached -- try again later":                           "limited turned away",
		"kex_exchange_identification: read: Connection reset by peer":                      "turned away",
		"mux_client_request_session: session request failed: Session open refused by peer": "session",
		"rsync: connection unexpectedly closed (0 bytes received so far) [sender]":         "",
		"ssh: connect to host h port 22: Connection refused":                               "",
	} {
		var got []string
		if limited([]string{note}) {
			got = append(got, "limited")
		}
		if turnedAway([]string{note}) {
			got = append(got, "turned away")
		}
		if sessionRefused(note) {
			got = append(got, "session")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q", note, got)
		}
	}
}
