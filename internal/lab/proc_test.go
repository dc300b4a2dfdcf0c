package lab

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseRollupReadsRssAndPss(t *testing.T) {
	text := `55d4c0a00000-7ffd2b5f3000 ---p 00000000 00:00 0                          [rollup]
Rss:                5164 kB
Pss:                1385 kB
Pss_Dirty:           672 kB
Pss_Anon:            640 kB
Shared_Clean:       4428 kB
SwapPss:               0 kB
`
	m, ok := parseRollup([]byte(text))
	if !ok || m.RSS != 5164<<10 || m.PSS != 1385<<10 {
		t.Errorf("got %+v, %v", m, ok)
	}
	for _, bad := range []string{"", "Rss: 1 kB\n", "Rss: x kB\nPss: 1 kB\n"} {
		if _, ok := parseRollup([]byte(bad)); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestParseStatTakesAnyName(t *testing.T) {
	p, ok := parseStat("42 (a (b) c) S 7 42 40 0 -1 4194560 1 2 3 4 11 12 250 50 20 0 1 0 100 1000 250 18446744073709551615")
	if !ok || p.PID != 42 || p.Kind != "a (b) c" || p.Parent != 7 || p.Session != 40 || p.Ended != 3*time.Second {
		t.Errorf("got %+v, %v", p, ok)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 7"} {
		if _, ok := parseStat(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestOwnMemoryAndCPUAreSeen(t *testing.T) {
	if m := MemoryByKind(os.Getpid()); len(m) == 0 {
		t.Error("no memory of this process")
	}
	rusage := func() time.Duration {
		var all unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &all); err != nil {
			t.Fatal(err)
		}
		return time.Duration(all.Utime.Nano() + all.Stime.Nano())
	}
	before := CPUOf(os.Getpid())
	for end := rusage() + 50*time.Millisecond; rusage() < end; { // by its own clock: others run too
	}
	if used := CPUOf(os.Getpid()) - before; used < 20*time.Millisecond {
		t.Errorf("50 ms of work count as %s", used)
	}
}

func TestOneMemoryCountsOnce(t *testing.T) {
	// Between vfork and exec a child has that of its parent: as two threads have one.
	if !SameMemory(os.Getpid(), unix.Gettid()) {
		t.Error("a thread of this process counts by itself")
	}
	if SameMemory(os.Getpid(), os.Getppid()) {
		t.Error("the parent of this process does not count")
	}
}

func TestGroupEndsWhatOutlivedItsParent(t *testing.T) {
	// The inner shell makes sleep an orphan, which keeps only the session.
	g, err := Start(exec.Command("sh", "-c", `sh -c 'sleep 300 & exit' ; sleep 300`))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); len(Processes(g.Leader)) < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("found only %+v", Processes(g.Leader))
		}
	}
	g.End()
	if left := Processes(g.Leader); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}
