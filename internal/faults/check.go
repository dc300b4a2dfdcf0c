package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// same waits until a compare by checksums finds no difference between root and
// target. What a killed process leaves to the next sweep does not count.
func (r *rig) same(ctx context.Context, target string, killed bool, patience time.Duration) error {
	args := []string{"-anic", "--delete", "--modify-window=-1"}
	if r.stranger {
		args = append(args, "--no-o", "--no-g")
	}
	if killed {
		args = append(args, "--omit-dir-times", "--exclude=.fastsync-partial/", "--exclude=.?*.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]")
	}
	var out []byte
	var err error
	begun, waits := time.Now(), ""
	late := lab.Until(ctx, patience, 100*time.Millisecond, func() bool {
		out, err = exec.CommandContext(ctx, "rsync", append(args, r.root+"/", target+"/")...).CombinedOutput()
		if waits == "" && time.Since(begun) > patience/3 {
			waits = r.waits()
		}
		return err == nil && len(bytes.TrimSpace(out)) == 0
	})
	if late != nil {
		return fmt.Errorf("C1: root and target differ after %s: %w\n%s\nafter a third of that:\n%s", patience, errors.Join(late, err), worst(out, 2000), waits)
	}
	if waits != "" {
		fmt.Fprintf(os.Stderr, "root and target are the same only after %s; after %s:\n%s", short(time.Since(begun)), short(patience/3), waits)
	}
	return nil
}

// worst is the beginning of a list of differences, those of directories' times alone last.
func worst(list []byte, most int) []byte {
	var worse, times []byte
	for line := range bytes.Lines(list) {
		if bytes.HasPrefix(line, []byte(".d")) {
			times = append(times, line...)
		} else {
			worse = append(worse, line...)
		}
	}
	worse = append(worse, times...)
	return worse[:min(len(worse), most)]
}

// waits says what fastsync's children wait for: an rsync that stands still says so.
func (r *rig) waits() string {
	var b strings.Builder
	for _, p := range r.processes() {
		if p.Kind == filepath.Base(r.binary) {
			continue
		}
		of := fmt.Sprintf("/proc/%d/", p.PID)
		wchan, _ := os.ReadFile(of + "wchan")
		call, _ := os.ReadFile(of + "syscall")
		fmt.Fprintf(&b, "%s %d, child of %d, waits in %s, system call %s\n", p.Kind, p.PID, p.Parent, wchan, bytes.TrimSpace(call))
	}
	return b.String()
}

// processes are those of the agent and the subscriber, which may be one.
func (r *rig) processes() (all []lab.Process) {
	seen := map[int]bool{}
	for _, g := range []*lab.Group{r.agent, r.sub} {
		if g == nil {
			continue
		}
		for _, p := range lab.Processes(g.Leader) {
			if !seen[p.PID] {
				seen[p.PID] = true
				all = append(all, p)
			}
		}
	}
	return all
}

// ledger sees that every event that Redis has is acknowledged or listed by name.
func (r *rig) ledger(ctx context.Context, patience time.Duration) error {
	var last string
	err := lab.Until(ctx, patience, 100*time.Millisecond, func() bool {
		st, err := r.status(ctx)
		if err != nil {
			last = err.Error()
			return false
		}
		last = ""
		for _, t := range st.Targets {
			if t.LagEvents > 0 || t.Gap != "" || t.Health != "ok" {
				last += fmt.Sprintf("%s: %d events open, gap %q, health %s, failed %v; ", t.Target, t.LagEvents, t.Gap, t.Health, t.Paths)
			}
		}
		return last == ""
	})
	if err != nil {
		return fmt.Errorf("C2: %s%w", last, err)
	}
	return nil
}

const (
	sweepBegins = "sweep begins"
	eventsLost  = "events may have been lost"
)

// announced sees that nothing was repaired by a sweep that no gap asked for.
func (r *rig) announced(f fault, from int) error {
	sweeps, gaps := r.lines(from, sweepBegins), r.lines(from, eventsLost, "the target is another one")
	switch {
	case sweeps > 0 && !f.gap:
		return fmt.Errorf("C1: %d sweeps ran, where events alone should do", sweeps)
	case sweeps > 0 && gaps == 0 && !f.asked:
		return fmt.Errorf("C1: %d sweeps ran and no gap was announced", sweeps)
	}
	return nil
}

// canary is what nobody may read or touch: it lies outside both roots, with links
// to it from inside the root.
type canary struct {
	dir, secret string
	before      string
}

func newCanary(r *rig) (canary, error) {
	c := canary{dir: filepath.Join(r.dir, "canary"), secret: fmt.Sprintf("secret-%016x", r.rng.Uint64())}
	beside := filepath.Join(c.dir, "sub")
	if err := os.MkdirAll(beside, 0o755); err != nil {
		return c, err
	}
	for _, f := range []string{filepath.Join(c.dir, "secret"), filepath.Join(beside, "secret")} {
		if err := os.WriteFile(f, []byte(c.secret), 0o600); err != nil {
			return c, err
		}
	}
	if r.way != "daemon" { // which without chroot makes another link of it
		if err := os.Symlink(c.dir, filepath.Join(r.root, "keep-link")); err != nil {
			return c, err
		}
	}
	c.before = c.state()
	return c, nil
}

// state is all of the canary that a reader or a writer changes.
func (c canary) state() string {
	var b strings.Builder
	_ = filepath.WalkDir(c.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&b, err)
			return nil
		}
		info, err := e.Info()
		if err != nil {
			fmt.Fprintln(&b, err)
			return nil
		}
		fmt.Fprintln(&b, p, info.Mode(), info.Size(), info.ModTime().UnixNano())
		if e.Type().IsRegular() {
			text, err := os.ReadFile(p)
			fmt.Fprintln(&b, string(text), err)
		}
		return nil
	})
	return b.String()
}

// sings sees that the canary is as it was, and nothing of it is at a target.
func (c canary) sings(targets ...string) error {
	if now := c.state(); now != c.before {
		return fmt.Errorf("C4: the canary was\n%sand is\n%s", c.before, now)
	}
	for _, t := range targets {
		err := filepath.WalkDir(t, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			if text, err := os.ReadFile(p); err == nil && bytes.Contains(text, []byte(c.secret)) {
				return fmt.Errorf("C4: the canary's secret is at the target: %q", p)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// filesPerChild is what fastsync has open for a child: pipes, its pidfd,
// the reading lock and sockets of its remote shell.
const filesPerChild = 6

// bounds is what must not grow.
type bounds struct {
	fastsyncs, others int // processes
	children          int // of the others, those that fastsync itself started
	files             int // open, of fastsync's own processes
	rss               int64
}

func (r *rig) bounds() bounds {
	var b bounds
	own := map[int]bool{}
	all := r.processes()
	for _, p := range all {
		own[p.PID] = p.Kind == filepath.Base(r.binary)
	}
	for _, p := range all {
		if !own[p.PID] {
			b.others++
			if own[p.Parent] {
				b.children++
			}
			continue
		}
		b.fastsyncs++
		open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
		b.files += len(open)
		m, _ := lab.MemoryOf(p.PID)
		b.rss += m.RSS
	}
	return b
}

// bounded waits until what fastsync uses is back at what it used before.
func (r *rig) bounded(ctx context.Context) error {
	var now bounds
	err := lab.Until(ctx, 20*time.Second, 200*time.Millisecond, func() bool {
		now = r.bounds()
		more := now.others - r.base.others // rsyncs are kept ready by need
		files := r.base.files + 16 + filesPerChild*max(0, now.children-r.base.children)
		return now.fastsyncs <= r.base.fastsyncs && more <= 6 && now.files <= files && now.rss <= 2*r.base.rss+(32<<20)
	})
	if err != nil {
		return fmt.Errorf("C6: %w: processes, files and memory were %+v and are %+v", err, r.base, now)
	}
	return nil
}

// leftovers sees that a sweep leaves nothing of what was cut.
func (r *rig) leftovers(ctx context.Context) error {
	out, err := r.fastsync(ctx, append([]string{"sweep", "--name", name}, r.directly()...)...)
	if err != nil {
		return fmt.Errorf("C6: fastsync sweep: %w: %s", err, out)
	}
	var found []string
	late := lab.Until(ctx, 20*time.Second, 200*time.Millisecond, func() bool { // it does when nothing has run for a while
		found = r.beginnings()
		return len(found) == 0
	})
	if late != nil {
		return fmt.Errorf("C6: left at the target after a sweep: %q", found[:min(len(found), 10)])
	}
	return nil
}

// beginnings are what rsyncs that were cut have left at the target.
func (r *rig) beginnings() (found []string) {
	_ = filepath.WalkDir(r.target, func(p string, e fs.DirEntry, err error) error {
		if err == nil && (e.Name() == ".fastsync-partial" || received.MatchString(e.Name()) && !e.IsDir()) {
			if _, err := os.Lstat(filepath.Join(r.root, strings.TrimPrefix(p, r.target))); err != nil {
				found = append(found, p)
			}
		}
		return nil
	})
	return found
}

// shown asks for the status until it shows the fault, from now on; the function
// that it returns tells after how long it did.
func (r *rig) shown(ctx context.Context, pattern string) func() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	want, begun := regexp.MustCompile(pattern), time.Now()
	found := make(chan time.Duration, 1)
	var last string
	r.running.Go(func() {
		defer close(found)
		for ctx.Err() == nil {
			if last = r.ask(ctx); want.MatchString(last) {
				found <- time.Since(begun)
				return
			}
			_ = lab.Pause(ctx, 100*time.Millisecond)
		}
	})
	return func() (time.Duration, error) {
		defer cancel()
		took, ok := <-found
		switch {
		case !ok:
			return 0, fmt.Errorf("C5: the status never said %q; last: %s", pattern, last[:min(len(last), 1500)])
		case took > 30*time.Second:
			return took, fmt.Errorf("C5: the status said %q after %s only", pattern, took)
		}
		return took, nil
	}
}
