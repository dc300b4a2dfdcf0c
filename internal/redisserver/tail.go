package redisserver

import (
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

const (
	// tailLines is how many lines of a dead child are worth showing.
	tailLines = 3
	// tailLine is the longest line kept, in bytes.
	tailLine = 1024
)

// tail passes the child's output on to the log, line by line, and keeps the
// last few lines. The mutex is there since os/exec's goroutine may still write
// while a fork of the child holds its output open.
type tail struct {
	log   zerolog.Logger
	mu    sync.Mutex
	part  string
	lines []string
}

// Write takes any piece of output and never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := t.part + string(p)
	for {
		line, after, found := strings.Cut(rest, "\n")
		if !found {
			break
		}
		t.add(line)
		rest = after
	}
	t.part = rest[:min(len(rest), tailLine)]
	return len(p), nil
}

func (t *tail) add(line string) {
	line = strings.TrimSpace(line)
	if line == "" {
		return
	}
	line = line[:min(len(line), tailLine)]
	t.log.Debug().Str("line", line).Msg("redis-server says")
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// words are the last lines, without the process id and time in front of them.
func (t *tail) words() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var said []string
	for _, line := range append(t.lines[:len(t.lines):len(t.lines)], t.part) {
		for _, level := range []string{" # ", " * ", " - ", " . "} {
			if _, text, found := strings.Cut(line, level); found {
				line = text
				break
			}
		}
		if line != "" {
			said = append(said, line)
		}
	}
	return strings.Join(said, " / ")
}
