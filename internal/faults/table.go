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

// write puts the table between its two marks in a file.
func (s *suite) write(file string, reports []report) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), tableBegins)
	_, after, ended := strings.Cut(rest, tableEnds)
	if !found || !ended {
		return fmt.Errorf("%s lacks the marks of the table", file)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d, %d CPUs.\n\n| fault | injected | promised | seen |\n|---|---|---|---|\n", time.Now().Format(time.DateOnly), s.seed, cpus())
	for _, r := range reports {
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", r.name, r.injected, r.promised, strings.ReplaceAll(r.seen(), "|", "\\|"))
	}
	return os.WriteFile(file, []byte(before+tableBegins+b.String()+tableEnds+after), 0o644)
}
