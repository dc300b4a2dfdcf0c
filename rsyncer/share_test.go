package rsyncer

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
	"go.uber.org/goleak"
)

// overSSH is an Rsyncer over an sshd of the test's own, ready for batches.
func overSSH(t testing.TB, change func(*Config)) (r *Rsyncer, target string, stop func()) {
	t.Helper()
	cfg := setup(t)
	target = cfg.Target
	cfg.Rsh, cfg.Target, cfg.Warm = sshServer(t), "127.0.0.1:"+cfg.Target, 2
	if change != nil {
		change(&cfg)
	}
	r = open(t, cfg)
	stop = running(t, r)
	ready(t, r, cfg.Warm)
	return r, target, stop
}

// through puts a link between an --rsh and its sshd.
func through(t testing.TB, rsh string) (*link, string) {
	t.Helper()
	words := strings.Fields(rsh)
	var port int
	for i, w := range words {
		if w == "-p" {
			_, err := fmt.Sscan(words[i+1], &port)
			must(t, err)
			l, own := newLink(t, port)
			words[i+1] = fmt.Sprint(own)
			return l, strings.Join(words, " ")
		}
	}
	t.Fatal("no port in " + rsh)
	return nil, ""
}

func TestOneLoginForAll(t *testing.T) {
	t.Parallel()
	var line *link
	r, target, _ := overSSH(t, func(cfg *Config) { line, cfg.Rsh = through(t, cfg.Rsh) })
	for i := range 3 {
		arrives(t, r, r.cfg.Source, target, fmt.Sprint(i))
		ready(t, r, 2)
	}
	if n := line.accepted.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
	same(t, compare(t, r, nil), "keep entry")
	clean(t, shipBulk(t, r, entry("keep")))
	if n := line.accepted.Load(); n != 2 || masterOf(r, fastsync.Bulk) == 0 || masterOf(r, fastsync.Bulk) == masterOf(r, fastsync.Live) {
		t.Errorf("%d logins, want one more for bulk", n)
	}
}

func TestABatchAtTheStartWaitsForTheLoginOfAll(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	target := cfg.Target
	line, rsh := through(t, sshServer(t))
	cfg.Rsh, cfg.Target, cfg.Warm = rsh, "127.0.0.1:"+target, 1
	r := open(t, cfg)
	running(t, r)
	eventually(t, "it logs in", func() bool { return r.shares[fastsync.Live].in(logging) })
	arrives(t, r, cfg.Source, target, "a")
	if n := line.accepted.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	write(t, tmp, "fastsync-ssh-999999999-1/live", "of one that was killed")
	r, _, stop := overSSH(t, nil)
	dir := filepath.Dir(r.shares[fastsync.Live].socket)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 || filepath.Dir(dir) != tmp {
		t.Errorf("the sockets' folder: %v, %v", info, err)
	}
	shipBulk(t, r, entry("keep"))
	stop()
	if left := processes(os.Getpid()); len(left) != 1 { // the sshd
		t.Errorf("left: %v", left)
	}
	if dirs, _ := filepath.Glob(tmp + "/fastsync-ssh-*"); len(dirs) > 0 {
		t.Errorf("left: %v", dirs)
	}
	goleak.VerifyNone(t)
}

func TestAFolderThatIsNoneForSockets(t *testing.T) {
	for name, dir := range map[string]string{"long": strings.Repeat("x", 90), "odd": "a %h b", "missing": ""} {
		t.Run(name, func(t *testing.T) {
			base, err := os.MkdirTemp("", "")
			must(t, err)
			defer os.RemoveAll(base)
			tmp := filepath.Join(base, dir)
			if dir == "" {
				tmp = filepath.Join(tmp, "missing")
			} else {
				must(t, os.Mkdir(tmp, 0o755))
			}
			r, target, stop := overSSH(t, func(*Config) { t.Setenv("TMPDIR", tmp) })
			arrives(t, r, r.cfg.Source, target, "a")
			if dir, err := r.controlDir(); err == nil || r.shared(fastsync.Live) != "" {
				t.Errorf("%s is for sockets", dir)
			}
			stop()
			if left, _ := os.ReadDir(tmp); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestTheOperatorsOwnSharingIsLeftAlone(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "own")
	r, target, _ := overSSH(t, func(cfg *Config) { cfg.Rsh += " -o controlpath=" + own })
	for pid, line := range processes(os.Getpid()) {
		if strings.Contains(line, " -M ") && strings.Contains(line, own) {
			t.Errorf("%d is %s", pid, line)
		}
	}
	arrives(t, r, r.cfg.Source, target, "a")
}

func TestALostConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	r, target, _ := overSSH(t, nil)
	for i := range 2 {
		old := masterOf(r, fastsync.Live)
		signal(t, syscall.SIGKILL, old)
		arrives(t, r, r.cfg.Source, target, fmt.Sprint("at once ", i))
		eventually(t, "another connection", func() bool { now := masterOf(r, fastsync.Live); return now != 0 && now != old })
		ready(t, r, 2)
		arrives(t, r, r.cfg.Source, target, fmt.Sprint("after it ", i))
	}
}

// The target goes away for longer than anybody likes to try, and comes back.
func TestReadyAgainSoonAfterTheTargetIsBack(t *testing.T) {
	t.Parallel()
	var line *link
	var gate turnstile
	r, target, _ := overSSH(t, func(cfg *Config) {
		line, cfg.Rsh = through(t, cfg.Rsh)
		gate = watched(t, cfg)
	})
	line.cut(true)
	if _, err := r.Sync(context.Background(), fastsync.Live, entry("keep")); fastsync.ClassOf(err) != fastsync.Transient {
		t.Errorf("%v", err)
	}
	eventually(t, "it has noticed", func() bool { return inReserve(r) == 0 && r.shares[fastsync.Live].in(resting) })
	r.pool.mu.Lock()
	r.pool.policy.failures = 9 // as after an hour
	r.pool.policy.failed(time.Now(), r.limits)
	r.pool.mu.Unlock()
	r.shares[fastsync.Live].mu.Lock()
	r.shares[fastsync.Live].again.failures = 9
	r.shares[fastsync.Live].again.failed(time.Now(), r.limits)
	r.shares[fastsync.Live].mu.Unlock()
	if tries := line.accepted.Load(); tries > 12 {
		t.Errorf("%d logins", tries)
	}
	line.cut(false)
	arrives(t, r, r.cfg.Source, target, "back")
	within(t, 5*time.Second, "two are ready, over a shared connection", func() bool {
		return len(waiting(r)) == 2 && masterOf(r, fastsync.Live) != 0
	})
	gate.shut(t)
	arrives(t, r, r.cfg.Source, target, "as fast as before")
}

func TestSshdIsRestarted(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	rsh, port, conf := sshConf(t)
	sshd := serve(t, port, need(t, "sshd"), "-D", "-f", conf)
	target := cfg.Target
	cfg.Rsh, cfg.Target, cfg.Warm = rsh, "127.0.0.1:"+target, 2
	r := open(t, cfg)
	running(t, r)
	ready(t, r, 2)
	for pid := range processes(sshd.Process.Pid) {
		signal(t, syscall.SIGKILL, pid)
	}
	must(t, sshd.Process.Kill())
	_ = sshd.Wait()
	write(t, cfg.Source, "a", "a")
	if _, err := r.Sync(context.Background(), fastsync.Live, entry("a")); fastsync.ClassOf(err) != fastsync.Transient {
		t.Errorf("%v", err)
	}
	serve(t, port, need(t, "sshd"), "-D", "-f", conf)
	arrives(t, r, cfg.Source, target, "a")
	ready(t, r, 2)
}

// Who refuses logins is not asked for ever more of them.
func TestATargetThatRefusesLogins(t *testing.T) {
	t.Parallel()
	need(t, "ssh")
	cfg := setup(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var asked []time.Time
	var hangUp sync.WaitGroup
	hangUp.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked = append(asked, time.Now())
			c.Close()
		}
	})
	cfg.Rsh, cfg.Target, cfg.Warm = fmt.Sprintf("ssh -F none -p %d", l.Addr().(*net.TCPAddr).Port), "127.0.0.1:/x", 2
	r := open(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r.Run(ctx) // does nothing but try
	l.Close()
	hangUp.Wait()
	if n := len(asked); n < 3 || n > 8 {
		t.Errorf("%d logins in 3 s", n)
	}
}
