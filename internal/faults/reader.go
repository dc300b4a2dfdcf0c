package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// reader reads what is at a target over and over, as visitors do, and keeps what
// was not whole.
type reader struct {
	target string

	mu    sync.Mutex // between run and who asks
	torn  []string
	reads int
}

// received is what rsync calls a file that it has not received yet.
var received = regexp.MustCompile(`(?s)^\..+\.[A-Za-z0-9]{6}$`)

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		begun := time.Now()
		_ = filepath.WalkDir(r.target, func(p string, e fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return fs.SkipAll
			case err != nil:
				return nil
			case e.IsDir() && e.Name() == ".fastsync-partial":
				return fs.SkipDir
			case e.Type().IsRegular() && !received.MatchString(e.Name()):
				r.read(p)
			}
			return nil
		})
		select {
		case <-ctx.Done():
		case <-time.After(max(20*time.Millisecond, 3*time.Since(begun))): // else it takes a core for itself
		}
	}
}

func (r *reader) read(p string) {
	rel, _ := filepath.Rel(r.target, p)
	f, err := os.OpenInRoot(r.target, rel) // not by way of a link that has come in the way
	if err != nil {
		return // it has gone, or has become something else
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return
	}
	why := torn(data)
	if info, err := f.Stat(); err == nil && why != "" {
		why = fmt.Sprintf("%s; it has %d bytes of %s", why, info.Size(), info.ModTime().Format("15:04:05.000"))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reads++; why != "" && len(r.torn) < 100 {
		r.torn = append(r.torn, fmt.Sprintf("%q at %s: %s", rel, time.Now().Format("15:04:05.000"), why))
	}
}

// seen is what it has read so far, and what of it was not whole.
func (r *reader) seen() (reads int, torn []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads, r.torn
}
