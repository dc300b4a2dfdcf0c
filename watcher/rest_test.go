package watcher

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastsync/fastsync"
)

// idle makes a loop whose root is watched and that nobody runs.
func idle(t *testing.T) *loop {
	t.Helper()
	l := still(t, newFake())
	var err error
	if l.tree.kernel, err = fsnotify.NewWatcher(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.tree.kernel.Close() })
	l.good, l.heard, l.w.caught = time.Now(), time.Now(), true
	if l.root, err = os.Lstat(l.w.cfg.Root); err != nil {
		t.Fatal(err)
	}
	return l
}

// What is below a walk is not known yet: neither a catch-up nor the checkpoint
// may be ahead of it.
func TestCatchUpAndCheckpointWaitForWalks(t *testing.T) {
	l := idle(t)
	began := time.Now().Add(-time.Hour)
	l.tree.walks = []*walk{{began: began}}
	l.demand(time.Now())
	l.tick(t.Context(), time.Now(), true)
	if l.catching {
		t.Error("a catch-up begins before everything is watched")
	}
	if at := l.report().Checkpoint; at.After(began) {
		t.Errorf("checkpoint %v, want one before %v", at, began)
	}
	l.tree.walks = nil
	l.tick(t.Context(), time.Now(), true)
	if !l.catching {
		t.Error("no catch-up begins when everything is watched")
	}
}

// An overflow that ends a walk looks for what the walk had to publish.
func TestOverflowDuringAWalkLooksBackToItsBeginning(t *testing.T) {
	l := idle(t)
	began := time.Now().Add(-time.Hour)
	l.tree.walks = []*walk{{began: began, dir: "d"}}
	l.overflowed(errors.New("for the test"), "")
	if l.again == nil || l.again.After(began) {
		t.Errorf("it looks since %v, want before %v", l.again, began)
	}
}

func TestNoAlarmAtRest(t *testing.T) {
	for name, wait := range map[string]func(*loop){
		"":             func(*loop) {},
		"catch-up":     func(l *loop) { l.demand(time.Now()) },
		"missed file":  func(l *loop) { l.miss(time.Now()) },
		"linked file":  func(l *loop) { l.others.since = time.Now() },
		"root gone":    func(l *loop) { l.root = nil },
		"bare":         func(l *loop) { l.tree.bare["d"] = newSnapshot() },
		"both of them": func(l *loop) { l.root, l.tree.bare["d"] = nil, newSnapshot() },
	} {
		l := idle(t)
		wait(l)
		l.arm(true)
		if l.soon.set != (name != "" && name != "bare") || l.rewalks.set != strings.HasPrefix(name, "b") {
			t.Errorf("%q: alarms %v, %v", name, l.soon.set, l.rewalks.set)
		}
	}
}

func TestSilenceMovesTheCheckpointWhenAsked(t *testing.T) {
	l := idle(t)
	heard := time.Now().Add(-time.Minute)
	l.heard, l.good = heard, heard.Add(-time.Minute)
	l.listened(heard.Add(tick - 1))
	if !l.good.Before(heard) {
		t.Error("it counts as silence before a tick is over")
	}
	l.listened(heard.Add(tick))
	if !l.good.Equal(heard) {
		t.Errorf("good %v, want %v, when the silence began", l.good, heard)
	}
	r := start(t, t.TempDir(), nil)
	r.must(r.CatchUp(t.Context(), time.Now()))
	first := r.Status().Checkpoint
	eventually(t, "a later checkpoint", func() bool { return r.Status().Checkpoint.After(first) })
}

// Events that never cease do not hold the checkpoint back.
func TestCheckpointMovesUnderLoad(t *testing.T) { eachBackend(t, testCheckpointMovesUnderLoad) }

func testCheckpointMovesUnderLoad(t *testing.T, by func(*Watcher)) {
	r := start(t, t.TempDir(), by)
	r.must(r.CatchUp(t.Context(), time.Now()))
	ctx, cancel := context.WithCancel(t.Context())
	load := make(chan error, 1)
	go func() {
		often := time.NewTicker(tick / 50)
		defer often.Stop()
		for {
			if err := os.WriteFile(r.path("f"), nil, 0o600); err != nil {
				load <- err
				return
			}
			select {
			case <-ctx.Done():
				load <- nil
				return
			case <-often.C:
			}
		}
	}()
	begun := time.Now()
	eventually(t, "the checkpoint passes the start of the load", func() bool { return r.Status().Checkpoint.After(begun) })
	cancel()
	r.must(<-load)
}

// An answer that was lost makes the next ones count for less, never for more.
func TestEchoesThatAreLost(t *testing.T) {
	l := idle(t)
	t.Cleanup(l.echo.close)
	first := time.Now()
	for i := range 2 * mostEchoes {
		l.echo.ask(l.tree.kernel, first.Add(time.Duration(i)*tick))
	}
	if n := len(l.echo.asked); n != mostEchoes {
		t.Errorf("%d wait for an answer, want at most %d", n, mostEchoes)
	}
	e := <-l.tree.kernel.Events                              // the kernel makes one of those that follow each other
	l.good, l.heard = first.Add(-tick), first.Add(time.Hour) // no silence
	l.notice(e)
	if !l.good.Equal(first) {
		t.Errorf("good %v, want %v, when the first was made", l.good, first)
	}
	l.listened(l.heard.Add(time.Hour))
	if len(l.echo.asked) > 0 {
		t.Error("silence does not end the wait for those that were lost")
	}
}

// Who asks is not held up by a disk that hangs.
func TestStatusOfALoopThatIsStuck(t *testing.T) {
	stuck, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := start(t, t.TempDir(), func(w *Watcher) {
		w.cfg.Excluded = func(p string, _ bool) bool {
			if p == "f" {
				once.Do(func() { close(stuck); <-free })
			}
			return false
		}
	})
	before := r.Status()
	r.write("f")
	<-stuck
	if got := r.Status(); got.Watched != before.Watched {
		t.Errorf("status %+v, want %+v", got, before)
	}
	close(free)
	r.waitFor(t, "f", fastsync.Entry)
}

func TestStatusAfterRun(t *testing.T) {
	w, err := New(Config{Root: t.TempDir(), Publisher: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.Status()
	if took := time.Since(began); took >= patient {
		t.Errorf("it waited %v for a loop that has ended", took)
	}
}
