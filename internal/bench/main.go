// Command bench measures fastsync beside lsyncd, an inotifywait loop and bare
// rsyncs, in one run on one machine, and prints a table for each work.
//
// The figures to reach stand beside the figures measured. It judges nothing
// else: a figure that is not reached does not fail the run, a work that could
// not be measured does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	only, tools *regexp.Regexp
	sizes       sizes
	dir         string // where the folders are made
	markdown    string // file for the tables
	profile     string // folder for fastsync's profiles
	verbose     bool
}

// scenario is one work; it gives one table or more.
type scenario struct {
	name string
	run  func(ctx context.Context, w *world) ([]table, error)
}

// scenarios are in the order of the report.
func scenarios() []scenario {
	return []scenario{
		{"single-ssh", singleSSH},
		{"single-far", singleFar},
		{"single-daemon", singleDaemon},
		{"single-local", singleLocal},
		{"single-published", singlePublished},
		{"steady", steady},
		{"steady-limit", steadyLimit},
		{"lanes-first", lanesFirst},
		{"lanes-video", lanesVideo},
		{"burst", burst},
		{"burst-disk", burstOnDisk},
		{"burst-slow", burstSlow},
		{"memory-burst", memoryBurst},
		{"hugedir", hugeDir},
		{"start", start},
		{"idle", idle},
		{"catchup", catchUp},
		{"sweep", sweep},
	}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == helperFlag {
		exit(help(os.Args[2], os.Args[3]))
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = bench(ctx, o)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (options, error) {
	var o options
	var only, tools string
	var quick bool
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&only, "only", "", "only the works whose name matches this `REGEXP`")
	f.StringVar(&tools, "tools", "", "only the tools whose name matches this `REGEXP`")
	f.BoolVar(&quick, "quick", false, "smaller sizes, to see that all works")
	f.StringVar(&o.dir, "dir", roomy(), "where to make the folders; on a disk its write-back is measured along")
	f.StringVar(&o.markdown, "markdown", "", "put the tables into this `FILE`")
	f.StringVar(&o.profile, "profile", "", "measure nothing: leave profiles of fastsync in this `DIR`")
	f.BoolVar(&o.verbose, "verbose", false, "print what each tool said")
	o.sizes = full
	o.sizes.addFlags(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.sizes.shrink(f)
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	if o.tools, err = regexp.Compile(tools); err != nil {
		return o, fmt.Errorf("-tools: %w", err)
	}
	return o, nil
}

func bench(ctx context.Context, o options) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	if o.profile != "" {
		return profile(ctx, w, o.profile)
	}
	var r report
	var faults []error
	for _, s := range scenarios() {
		if !o.only.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		begun := time.Now()
		tables, err := w.within(ctx, s)
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", s.name, time.Since(begun).Seconds())
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", s.name, err))
		}
		for _, t := range tables {
			t.print(os.Stdout)
		}
		r.tables = append(r.tables, tables...)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	r.machine = w.describe(ctx)
	for _, line := range r.machine {
		fmt.Println(line)
	}
	if o.markdown != "" {
		faults = append(faults, r.markdown(o.markdown))
	}
	return errors.Join(faults...)
}

// within gives a scenario an end.
func (w *world) within(ctx context.Context, s scenario) ([]table, error) {
	ctx, cancel := context.WithTimeout(ctx, longest+2*w.sizes.idle)
	defer cancel()
	return s.run(ctx, w)
}

// longest is how long one scenario may take, beside what it watches idleness for.
const longest = 10 * time.Minute
