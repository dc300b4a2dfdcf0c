// Command faults breaks what fastsync stands on, on purpose, and sees that its
// promises hold: real servers, a root that changes all the time by a seed, and
// after each fault the same checks.
//
//	C1  a compare by checksums finds root and target the same, by events alone
//	    unless a gap was announced
//	C2  every event in Redis is acknowledged, or its path is listed by name
//	C3  whoever read the target all the while never read a torn file
//	C4  what lies outside both roots was neither read nor touched
//	C5  the status showed the fault within 30 s
//	C6  memory, files, processes and beginnings of files are back where they were
//
// With -without it takes the protections out of the code, one by one, and sees
// that their faults are then found.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// suite is what all faults share.
type suite struct {
	dir, binary string
	out         io.Writer
	seed        uint64
	only        *regexp.Regexp
	fast, keep  bool
	single      bool          // no file has two names, as nothing looks for the others
	times       int           // at most so many injections of each; 0 means as many as its figure says
	long        time.Duration // how long what is away stays away
	beside      int           // so many at a time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := realMain(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context) error {
	s := suite{out: os.Stdout}
	only := flag.String("only", "", "only the faults whose name matches this `REGEXP`")
	flag.Uint64Var(&s.seed, "seed", 1, "what all chance comes from")
	flag.BoolVar(&s.fast, "fast", false, "only the quick ones, each once")
	flag.BoolVar(&s.keep, "keep", false, "keep the folders of what failed")
	flag.IntVar(&s.times, "times", 1, "how often each is injected at most; 0 means as often as its figure says")
	flag.IntVar(&s.beside, "beside", 2, "so many faults or seeds at a time, but for those that need the machine to themselves")
	flag.DurationVar(&s.long, "long", 10*time.Second, "how long what is away stays away")
	flag.StringVar(&s.binary, "binary", "", "the fastsync to test; unset: it is built")
	without := flag.Bool("without", false, "take each protection out of the code and see that its fault is found")
	storm := flag.Duration("storm", 0, "instead: faults at random for so `long`, of each of -seeds seeds")
	seeds := flag.Int("seeds", 1, "how many seeds a storm has, beginning with -seed")
	table := flag.String("markdown", "", "put what was seen into the table of this `FILE`, which keeps the rows of faults that do not run")
	flag.Parse()
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if s.dir, err = os.MkdirTemp("", "fastsync-faults-"); err != nil {
		return err
	}
	defer func() {
		if !s.keep {
			_ = os.RemoveAll(s.dir)
		}
	}()
	_ = os.Chmod(s.dir, 0o755)
	if s.binary == "" {
		if s.binary, err = s.build(ctx, nil); err != nil {
			return err
		}
	} else if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	switch {
	case *storm > 0:
		return s.storms(ctx, *storm, *seeds)
	case *without:
		return s.without(ctx)
	}
	return s.all(ctx, *table)
}

// all injects every fault and prints the table.
func (s *suite) all(ctx context.Context, markdown string) error {
	var together, alone []fault
	for _, f := range faults() {
		switch {
		case !s.only.MatchString(f.name) || s.fast && !f.fast:
		case f.alone:
			alone = append(alone, f)
		default:
			together = append(together, f)
		}
	}
	failed := 0
	var unwritten error
	run := func(f fault) report { return s.run(ctx, f, s.injections(f), s.seed) }
	done := func(rep report) {
		s.print(rep)
		if rep.err != nil {
			failed++
		}
		if markdown != "" {
			unwritten = errors.Join(unwritten, write(markdown, rep))
		}
	}
	sideBySide(ctx, together, s.beside, run, done)
	sideBySide(ctx, alone, 1, run, done)
	all := len(together) + len(alone)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case all == 0:
		return errors.New("no fault has such a name")
	case failed > 0:
		return errors.Join(fmt.Errorf("%d of %d faults broke a promise", failed, all), unwritten)
	}
	return unwritten
}

// sideBySide runs so many of a list at a time, in its order, and none any more
// once ctx has ended. What each gives goes to done, one after the other.
func sideBySide[T any](ctx context.Context, list []T, beside int, run func(T) report, done func(report)) {
	var one sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, max(beside, 1))
	for _, of := range list {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			rep := run(of)
			one.Lock()
			done(rep)
			one.Unlock()
			<-slots
		})
	}
	all.Wait()
}

// usual is how often a full run injects a fault.
const usual = 20

func (s *suite) injections(f fault) int {
	full := cmp.Or(f.times, usual)
	switch {
	case s.fast:
		return 1
	case s.times == 0:
		return full
	}
	return min(full, s.times)
}

func (s *suite) print(r report) {
	fmt.Fprintf(s.out, "%-46s %3d×  %6s  seed %d  %s\n", r.name, r.injected, short(r.took), r.seed, r.seen())
	if r.err != nil {
		fmt.Fprintf(s.out, "%v\n", r.err)
	}
}
