package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	tableBegins = "<!-- the table of make faults begins -->\n"
	tableEnds   = "<!-- the table of make faults ends -->\n"
)

// write puts a fault's row into the table between its two marks in a file. The
// rows of others stay, so that a table may come from several runs.
func write(file string, r report) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), tableBegins)
	old, after, ended := strings.Cut(rest, tableEnds)
	if !found || !ended {
		return fmt.Errorf("%s lacks the marks of the table", file)
	}
	rows := map[string]string{}
	for line := range strings.Lines(old) {
		if cells := strings.SplitN(line, " | ", 2); len(cells) == 2 {
			rows[strings.TrimPrefix(cells[0], "| ")] = line
		}
	}
	rows[r.name] = fmt.Sprintf("| %s | %d | %s | %s | %s, seed %d, %d CPUs |\n", r.name, r.injected, r.promised,
		strings.ReplaceAll(r.seen(), "|", "\\|"), time.Now().Format(time.DateOnly), r.seed, cpus())
	var b strings.Builder
	b.WriteString("| fault | injected | promised | seen | run |\n|---|---|---|---|---|\n")
	for _, f := range faults() {
		b.WriteString(rows[f.name])
	}
	return os.WriteFile(file, []byte(before+tableBegins+b.String()+tableEnds+after), 0o644)
}
