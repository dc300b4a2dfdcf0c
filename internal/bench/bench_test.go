package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func durations(n int) []time.Duration {
	var all []time.Duration
	for i := n; i >= 1; i-- { // not sorted
		all = append(all, time.Duration(i)*time.Millisecond)
	}
	return all
}

func TestQuantileIsByTheNearestRank(t *testing.T) {
	for _, c := range []struct {
		n    int
		q    float64
		want float64
	}{
		{1, 0.5, 1}, {2, 0.5, 1}, {3, 0.5, 2}, {20, 0.95, 19}, {20, 0.99, 20}, {100, 0.99, 99}, {100, 0.5, 50}, {200, 0.99, 198}, {7, 1, 7}, {7, 0, 1},
	} {
		if got := quantile(durations(c.n), c.q); got != c.want {
			t.Errorf("quantile(1…%d, %v) = %v, want %v", c.n, c.q, got, c.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v, want NaN", got)
	}
	all := durations(3)
	quantile(all, 0.5)
	if all[0] != 3*time.Millisecond {
		t.Error("quantile sorted the values of its caller")
	}
}

func TestMedianOfAnEvenNumberIsTheLowerMiddle(t *testing.T) {
	if got := median([]float64{4, 1, 3, 2}); got != 2 {
		t.Errorf("median = %v, want 2", got)
	}
	if got := median([]float64{9, 1, 3}); got != 3 {
		t.Errorf("median = %v, want 3", got)
	}
}

func TestGoalThatIsNotMeasuredIsNotReached(t *testing.T) {
	for want, got := range map[string]float64{"yes": 6, "no": 6.01, "not measured": math.NaN()} {
		if g := (goal{"p50", 6, got, "ms"}); g.reached() != want {
			t.Errorf("%v of 6: %q, want %q", got, g.reached(), want)
		}
	}
	if (goal{"p50", 6, math.Inf(1), "ms"}).reached() != "no" {
		t.Error("what never came reached its figure")
	}
}

func TestQuickKeepsWhatAFlagGave(t *testing.T) {
	f := flag.NewFlagSet("", flag.ContinueOnError)
	s := full
	s.addFlags(f)
	if err := f.Parse([]string{"-files", "77", "-idle", "3s"}); err != nil {
		t.Fatal(err)
	}
	s.shrink(f)
	if s.files != 77 || s.idle != 3*time.Second || s.burst != small.burst || s.patience != small.patience {
		t.Errorf("got %+v", s)
	}
}

func TestNumbersAreShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.0123: "0.012", 5.126: "5.13", 15.26: "15.3", 1234.5: "1234", math.Inf(1): "∞"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestMarkdownReplacesOnlyTheTables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	r := report{machine: []string{"a machine"}, tables: []table{{title: "Work", how: "So.", head: []string{"a", "b"}, rows: [][]string{{"1", "2"}}}}}
	r.tables[0].goal("p50", 6, 5, "ms")
	if err := os.WriteFile(file, []byte("before\n"+tablesBegin+"\nold\n"+tablesEnd+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds what the first wrote
		if err := r.markdown(file); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(file)
	got := string(text)
	if !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "\nafter\n") || strings.Contains(got, "old") || strings.Count(got, "### Work") != 1 {
		t.Errorf("got:\n%s", got)
	}
	for _, want := range []string{"a machine", "| a | b |\n|---|---|\n| 1 | 2 |", "| p50 | ≤ 6 ms | 5.00 ms | yes |"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r.markdown(file) == nil {
		t.Error("a file without the marks was written over")
	}
}
