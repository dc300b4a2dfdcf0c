package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func cpus() int { return runtime.NumCPU() }

// patch changes a file of the project's, or of Go's own if its name begins with
// goroot: old is replaced, and must be there once.
type patch struct{ file, old, new string }

const goroot = "GOROOT/"

// build makes a fastsync, with patches to its code if there are any: none of the
// project's files is changed for it.
func (s *suite) build(ctx context.Context, patches []patch) (string, error) {
	dir, err := os.MkdirTemp(s.dir, "build-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "fastsync")
	args := []string{"build", "-o", binary}
	if len(patches) > 0 {
		overlay, err := overlay(dir, patches)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, "./cmd/fastsync")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build fastsync: %w\n%s", err, out)
	}
	return binary, os.Chmod(dir, 0o755)
}

// overlay writes the patched files and what `go build -overlay` wants to know.
func overlay(dir string, patches []patch) (string, error) {
	replace := map[string]string{}
	for i, p := range patches {
		file, err := source(p.file)
		if err != nil {
			return "", err
		}
		from := file
		if earlier := replace[file]; earlier != "" {
			from = earlier
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), p.old); n != 1 {
			return "", fmt.Errorf("%s has %d times what a patch replaces: %q", p.file, n, p.old)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(to, []byte(strings.Replace(string(text), p.old, p.new, 1)), 0o644); err != nil {
			return "", err
		}
		replace[file] = to
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o644)
}

// source is the file that a patch is for.
func source(name string) (string, error) {
	below, ok := strings.CutPrefix(name, goroot)
	if !ok {
		return filepath.Abs(name)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	return filepath.Join(strings.TrimSpace(string(root)), below), err
}

// otherNames is what finds other names of files, by catch-ups that find what is lost, too.
var otherNames = patch{"watcher/due.go", "if !l.others.since.IsZero() && ", "if false && "}

// tries are how often a fault is injected at most until it is found: some harm by
// chance only.
const tries = 10

// without injects each fault into a fastsync without the protection from it. A
// fault that is not found then has no check.
func (s *suite) without(ctx context.Context) error {
	unseen, n := 0, 0
	for _, f := range faults() {
		if len(protections[f.name]) == 0 || !s.only.MatchString(f.name) || s.fast && !f.fast {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		binary, err := s.build(ctx, slices.Concat(f.patches, protections[f.name], []patch{otherNames}))
		f.patches = nil
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		bare := *s
		bare.binary, bare.single = binary, true
		n++
		rep := bare.run(ctx, f, max(tries, s.injections(f)), s.seed) // until it is found
		switch {
		case rep.skipped != "":
			fmt.Fprintf(s.out, "%-46s left out: %s\n", f.name, rep.skipped)
		case rep.err == nil:
			unseen++
			fmt.Fprintf(s.out, "%-46s NOT FOUND without its protection\n", f.name)
		default:
			first, _, _ := strings.Cut(rep.err.Error(), "\n")
			fmt.Fprintf(s.out, "%-46s found: %s\n", f.name, first)
		}
	}
	if unseen > 0 {
		return fmt.Errorf("%d of %d protections could be taken out unseen", unseen, n)
	}
	return nil
}
