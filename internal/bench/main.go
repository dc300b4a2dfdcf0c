// Command bench measures fastsync beside lsyncd and an inotifywait loop, in one
// run on one machine, over an sshd of its own on loopback, and prints a table.
// Figures are printed, never judged.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// scope is how much is measured.
type scope struct {
	files, burst, dirs int
	only               string
	patience           time.Duration
	verbose            bool
	dir                string
}

func main() {
	var s scope
	flag.IntVar(&s.files, "files", 30, "single files, 50 kB each, 150 to 600 ms apart")
	flag.IntVar(&s.burst, "burst", 10_000, "files of the burst, 10 kB each")
	flag.IntVar(&s.dirs, "dirs", 200, "new directories of the burst")
	flag.StringVar(&s.only, "only", "", "only the tools whose name contains this")
	flag.DurationVar(&s.patience, "patience", 2*time.Minute, "how long a tool may take for one file or the burst")
	flag.StringVar(&s.dir, "dir", roomy(), "where to make the folders; on a disk its write-back is measured along")
	flag.BoolVar(&s.verbose, "verbose", false, "print what each tool said")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, s scope) error {
	w, err := newWorld(ctx, s.dir)
	if err != nil {
		return err
	}
	defer w.close()
	var rows []row
	for _, t := range w.tools() {
		if !strings.Contains(t.name, s.only) {
			continue
		}
		if t.missing != "" {
			fmt.Printf("%s: left out, %s is not installed\n", t.name, t.missing)
			continue
		}
		fmt.Printf("%s …\n", t.name)
		r, err := w.measure(ctx, t, s)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		rows = append(rows, r)
	}
	describe(ctx)
	table(rows, s)
	return nil
}

// roomy is a folder in memory where there is one with 2 GB free: a file system's
// mood made the same write take 0.4 s and 9 s.
func roomy() string {
	var st syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &st); err == nil && st.Bavail*uint64(st.Bsize) > 2<<30 {
		return "/dev/shm"
	}
	return os.TempDir()
}

// row is what one tool did.
type row struct {
	name    string
	singles []time.Duration // sorted
	late    int             // files that did not come in time
	burst   time.Duration   // 0 for not in time
	base    baseline        // measured just before it
	memory  int64           // bytes, peak
	cpu     time.Duration
}

func table(rows []row, s scope) {
	fmt.Printf("\n%d single files of 50 kB, 150 to 600 ms apart, close(2) to whole at the target; %d files of 10 kB in %d new directories.\n", s.files, s.burst, s.dirs)
	fmt.Printf("Write and rsync: writing the burst with no tool watching, one bare rsync -a of it, just before each tool. Folders in %s. Memory is resident, summed over all of a tool's processes on this side; CPU is of those that it waited for.\n\n", s.dir)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "tool\tp50 ms\tp95 ms\tp99 ms\tmax ms\twrite s\trsync s\tburst s\t× (write+rsync)\tpeak MB\tCPU s\t")
	for _, r := range rows {
		burst, ratio := fmt.Sprintf("> %.0f", s.patience.Seconds()), "-"
		if r.burst > 0 {
			burst = fmt.Sprintf("%.1f", r.burst.Seconds())
			ratio = fmt.Sprintf("%.2f", r.burst.Seconds()/(r.base.write+r.base.rsync).Seconds())
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%s\t%s\t%.0f\t%s\t\n", r.name, r.quantile(0.5), r.quantile(0.95), r.quantile(0.99), r.quantile(1), r.base.write.Seconds(), r.base.rsync.Seconds(),
			burst, ratio, float64(r.memory)/1e6, r.used())
	}
	_ = t.Flush()
	for _, r := range rows {
		if r.late > 0 {
			fmt.Printf("%s: %d files were not at the target after %s\n", r.name, r.late, s.patience)
		}
	}
}

// used is the CPU time in seconds; a tool that is killed leaves its children's uncounted.
func (r row) used() string {
	if r.cpu < 50*time.Millisecond {
		return "?"
	}
	return fmt.Sprintf("%.1f", r.cpu.Seconds())
}

// quantile is in milliseconds, by the nearest rank.
func (r row) quantile(q float64) string {
	if len(r.singles) == 0 {
		return "-"
	}
	slices.Sort(r.singles)
	i := max(0, int(q*float64(len(r.singles))+0.999999)-1)
	return fmt.Sprintf("%.1f", float64(r.singles[min(i, len(r.singles)-1)].Microseconds())/1000)
}

// describe prints what the figures depend on.
func describe(ctx context.Context) {
	fmt.Printf("\n%s, %d cores, %s/%s\n", time.Now().Format("2006-01-02"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	for _, c := range [][]string{{"uname", "-r"}, {"rsync", "--version"}, {"redis-server", "--version"}, {"ssh", "-V"}, {"lsyncd", "--version"}} {
		if out := output(ctx, c[0], c[1:]...); out != "" {
			fmt.Println(c[0]+":", strings.SplitN(out, "\n", 2)[0])
		}
	}
}
