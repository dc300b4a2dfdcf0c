package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil { // where the program is run, too
		panic(err)
	}
	os.Exit(m.Run())
}

// TestPromisesHold injects the quick faults, each once: make faults does all.
func TestPromisesHold(t *testing.T) {
	for _, tool := range []string{"rsync", "redis-server", "ssh"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	s := testSuite(t)
	var err error
	if s.binary, err = s.build(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults() {
		if !f.fast {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			rep := s.run(t.Context(), f, 1, 1)
			if rep.skipped != "" {
				t.Skip(rep.skipped)
			}
			if rep.err != nil {
				t.Errorf("%s was promised; seed %d: %v", f.promised, rep.seed, rep.err)
			}
			t.Log(rep.seen())
		})
	}
}

// TestAProtectionThatIsTakenOutIsMissed tells whether the checks can fail.
func TestAProtectionThatIsTakenOutIsMissed(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip(err)
	}
	s := testSuite(t)
	const without = "names of every kind"
	var err error
	if s.binary, err = s.build(t.Context(), protections[without]); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults() {
		if f.name != without {
			continue
		}
		f.settles = 3 * time.Second // it never does
		if rep := s.run(t.Context(), f, 3, 1); rep.err == nil || !strings.Contains(rep.err.Error(), "C1") && !strings.Contains(rep.err.Error(), "C2") {
			t.Errorf("without its protection: %v", rep.err)
		}
	}
}

// Each fault has a protection, each protection is a fault's, and its patches fit the code.
func TestProtectionsFit(t *testing.T) {
	known := map[string]bool{}
	for _, f := range faults() {
		if known[f.name] {
			t.Errorf("two faults are called %q", f.name)
		}
		known[f.name] = true
		if f.promised == "" || f.harm == nil || len(protections[f.name]) == 0 && f.name != "a file where a directory should be" {
			t.Errorf("%q is not complete", f.name)
		}
		if _, err := overlay(t.TempDir(), f.patches); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	for name, patches := range protections {
		if !known[name] {
			t.Errorf("there is no fault %q", name)
		}
		if _, err := overlay(t.TempDir(), slices.Concat(patches, []patch{otherNames})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range stormy {
		if !known[name] {
			t.Errorf("a storm has no fault %q", name)
		}
	}
}

func testSuite(t *testing.T) *suite {
	t.Helper()
	dir := t.TempDir()
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		_ = os.Chmod(at, 0o755)
	}
	return &suite{out: t.Output(), dir: dir, long: 5 * time.Second, fast: true}
}

func TestTornFilesAreSeen(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	one, two := record(rng, 1000), record(rng, 1)
	for _, whole := range [][]byte{one, two, bytes.Join([][]byte{one, two, one}, nil)} {
		if why := torn(whole); why != "" {
			t.Errorf("a whole file: %s", why)
		}
	}
	other := record(rng, 1000)
	for what, bad := range map[string][]byte{
		"nothing": {}, "a beginning": one[:500], "an end": one[500:], "half a head": append(bytes.Clone(one), two[:10]...), "zeros": make([]byte, 1000),
		"two halves": append(bytes.Clone(one[:500]), other[500:]...), "one flipped bit": flipped(one, 700), "a lost record's end": append(bytes.Clone(one), other[:900]...),
	} {
		if torn(bad) == "" {
			t.Errorf("%s counts as whole", what)
		}
	}
}

func flipped(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

// A churn repeats by its seed, and leaves only whole files when it rests.
func TestChurnRepeats(t *testing.T) {
	var trees []string
	for range 2 {
		dir := t.TempDir()
		root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
		for _, d := range []string{root, outside} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c := newChurn(rand.New(rand.NewPCG(7, 7)), root, outside)
		for range 2000 {
			c.step()
		}
		var b strings.Builder
		_ = filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
				return nil
			}
			b.WriteString(strings.TrimPrefix(p, root) + " " + e.Type().String() + "\n")
			if e.Type().IsRegular() {
				data, err := os.ReadFile(p)
				if why := torn(data); err != nil || why != "" {
					t.Errorf("%q: %v %s", p, err, why)
				}
				b.Write(data)
			}
			return nil
		})
		trees = append(trees, b.String())
	}
	if trees[0] != trees[1] || len(trees[0]) < 1000 {
		t.Errorf("two churns with one seed differ, or there is nothing: %d and %d bytes", len(trees[0]), len(trees[1]))
	}
}

// The reader sees a torn file, and knows what rsync has not received yet.
func TestReaderSeesTornFiles(t *testing.T) {
	r := &reader{target: t.TempDir()}
	rng := rand.New(rand.NewPCG(1, 1))
	data := record(rng, 1000)
	for name, data := range map[string][]byte{"whole": data, "torn": data[:999], ".part.AbC123": data[:10]} {
		if err := os.WriteFile(filepath.Join(r.target, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r.run(ctx)
	reads, torn := r.seen()
	if reads < 2 || len(torn) == 0 || !strings.HasPrefix(torn[0], `"torn"`) {
		t.Errorf("%d reads, torn: %q", reads, torn)
	}
	for _, one := range torn {
		if !strings.HasPrefix(one, `"torn"`) {
			t.Error(one)
		}
	}
}

func TestGoroutinesAreCountedByTheirOrigin(t *testing.T) {
	var dump []byte
	for n := range 3 {
		dump = fmt.Appendf(dump, "goroutine %d [select]:\nmain.work(...)\n\t/x/a.go:7 +0x1\ncreated by main.start in goroutine 1\n\t/x/a.go:%d +0x2\n\n", n, 9+n/2)
	}
	if got := origins(dump); len(got) != 2 || got["/x/a.go:9"] != 2 || got["/x/a.go:10"] != 1 {
		t.Error(got)
	}
}

// As many run at a time as were asked for, each once, and none after the end.
func TestFaultsRunSideBySide(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	var now, most, told atomic.Int32
	var both sync.WaitGroup
	both.Add(2)
	run := func(n uint64) report {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		switch {
		case n < 2: // goes on when both are there
			both.Done()
			both.Wait()
		case n == 9:
			end()
		case n > 9:
			<-ctx.Done()
		}
		return report{seed: n}
	}
	var sum uint64
	sideBySide(ctx, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 2, run, func(rep report) { told.Add(1); sum += rep.seed })
	if n := told.Load(); most.Load() != 2 || n < 10 || n > 11 || sum != 45+uint64(n-10)*10 {
		t.Errorf("%d at a time, %d told, with a sum of %d", most.Load(), told.Load(), sum)
	}
}

// A table may come from several runs.
func TestTableKeepsTheRowsOfOtherFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.md")
	if err := os.WriteFile(file, []byte("before\n"+tableBegins+tableEnds+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := faults()
	for _, r := range []report{
		{fault: all[1], seed: 1}, {fault: all[0], seed: 2}, {fault: all[1], seed: 3, injected: 20, noted: []string{"a|b"}},
	} {
		if err := write(file, r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(got), "\n")
	if len(lines) != 9 || lines[0] != "before" || lines[7] != "after" ||
		!strings.HasPrefix(lines[4], "| "+all[0].name+" |") || !strings.Contains(lines[4], "seed 2") ||
		!strings.HasPrefix(lines[5], "| "+all[1].name+" | 20 |") || !strings.Contains(lines[5], `a\|b`) || !strings.Contains(lines[5], "seed 3") {
		t.Errorf("got\n%s", got)
	}
	if err := write(os.DevNull, report{}); err == nil {
		t.Error("a file without the marks is taken")
	}
}

// Where a fastsync of the host's own keeps its state nothing is written: its status
// would be asked of the rig's Redis.
func TestFaultsKeepToTheirFolder(t *testing.T) {
	for _, managed := range []bool{false, true} {
		r := &rig{managed: managed, near: true, state: "/rig/state", redis: &lab.Redis{}}
		if flags := strings.Join(r.flags(), " "); strings.Count(flags, "--state-dir /rig/state") != 1 {
			t.Errorf("managed=%v: %s", managed, flags)
		}
	}
}
