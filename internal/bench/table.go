package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// table is what one work gave.
type table struct {
	title string
	how   string // what was measured, in one line
	head  []string
	rows  [][]string
	goals []goal
	notes []string
}

// goal is a figure to reach beside the figure measured; NaN is not measured.
type goal struct {
	what       string
	reach, got float64
	unit       string
}

func (g goal) reached() string {
	switch {
	case g.got <= g.reach:
		return "yes"
	case g.got > g.reach:
		return "no"
	}
	return "not measured"
}

func (g goal) cells() []string {
	return []string{g.what, strings.TrimSpace(fmt.Sprintf("≤ %g %s", g.reach, g.unit)), strings.TrimSpace(number(g.got) + " " + g.unit), g.reached()}
}

var goalHead = []string{"figure", "to reach", "measured", "reached"}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) goal(what string, reach, got float64, unit string) {
	t.goals = append(t.goals, goal{what, reach, got, unit})
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n%s\n\n", t.title, t.how)
	align(w, t.head, t.rows)
	if len(t.goals) > 0 {
		fmt.Fprintln(w)
		align(w, goalHead, t.goalRows())
	}
	for _, n := range t.notes {
		fmt.Fprintln(w, "  "+n)
	}
	fmt.Fprintln(w)
}

func (t *table) goalRows() [][]string {
	var rows [][]string
	for _, g := range t.goals {
		rows = append(rows, g.cells())
	}
	return rows
}

func align(w io.Writer, head []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range append([][]string{head}, rows...) {
		fmt.Fprintln(t, "  "+strings.Join(cells, "\t"))
	}
	_ = t.Flush()
}

// report is a whole run.
type report struct {
	machine []string
	tables  []table
}

const (
	tablesBegin = "<!-- tables of one run of make bench -->"
	tablesEnd   = "<!-- end of the tables -->"
)

// markdown puts the tables into a file: between its two marks where it has
// them, else as all of it.
func (r *report) markdown(file string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n\n", tablesBegin, strings.Join(r.machine, "; "))
	for _, t := range r.tables {
		t.markdown(&b)
	}
	b.WriteString(tablesEnd)
	text := b.String() + "\n"
	if old, err := os.ReadFile(file); err == nil {
		before, rest, begins := strings.Cut(string(old), tablesBegin)
		_, after, ends := strings.Cut(rest, tablesEnd)
		if !begins || !ends {
			return fmt.Errorf("%s has no lines %q and %q to put the tables between", file, tablesBegin, tablesEnd)
		}
		text = before + b.String() + after
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

func (t *table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "### %s\n\n%s\n\n", t.title, t.how)
	rows := func(head []string, rows [][]string) {
		fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, cells := range rows {
			fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
		}
		b.WriteString("\n")
	}
	rows(t.head, t.rows)
	if len(t.goals) > 0 {
		rows(goalHead, t.goalRows())
	}
	for _, n := range t.notes {
		fmt.Fprintf(b, "%s\n\n", n)
	}
}

// firstOf is the value of the first line with a key in a file of /proc's.
func firstOf(file, key string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if k, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(value)
		}
	}
	return key + " unknown"
}

// kindOf is the kind of the file system that a folder is on.
func kindOf(folder string) string {
	out, err := exec.Command("stat", "-f", "-c", "%T", folder).Output()
	if err != nil {
		return "an unknown file system"
	}
	return strings.TrimSpace(string(out))
}

// describe is what the figures depend on.
func (w *world) describe(ctx context.Context) []string {
	lines := []string{fmt.Sprintf("%s, %d cores, %s/%s", time.Now().Format("2006-01-02"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)}
	lines = append(lines, strings.TrimSpace("bench "+strings.Join(os.Args[1:], " ")))
	lines = append(lines, fmt.Sprintf("%s; %s of memory; folders on %s, burst-disk on %s", firstOf("/proc/cpuinfo", "model name"), firstOf("/proc/meminfo", "MemTotal"), kindOf(w.options.dir), kindOf(os.TempDir())))
	lines = append(lines, fmt.Sprintf("an ssh login and an empty command, median of %d: %s ms", logins, number(w.login(ctx))))
	for _, c := range [][]string{{"uname", "-r"}, {"bin/fastsync", "version"}, {"rsync", "--version"}, {"redis-server", "--version"}, {"ssh", "-V"}, {"lsyncd", "--version"}, {"inotifywait", "--help"}} {
		if out, _ := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput(); len(out) > 0 {
			first, _, _ := strings.Cut(string(out), "\n")
			first, _, _ = strings.Cut(first, " sha=") // of a build, not of a version
			if c[0] == "uname" {
				first, _, _ = strings.Cut(first, "-")
			}
			lines = append(lines, c[0]+" "+strings.Join(c[1:], " ")+": "+strings.TrimSpace(first))
		}
	}
	return lines
}
