package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
)

// Trial is one thing that shipping relies on; Err says why rsync does not do it,
// nil that it does.
type Trial struct {
	What string
	Err  error
}

// Try has the rsync in PATH do what shipping relies on, each on files of its own
// in a temporary folder, which it removes. Versions tell little: distributions
// patch rsync. An error means that there was no place to try it.
func Try(ctx context.Context) ([]Trial, error) {
	trials := []struct {
		what string
		try  func(context.Context, *bench) error
	}{
		{"ship names of every kind, byte for byte", tryNames},
		{"see that a file was rewritten with equal size within a second", tryTimes},
		{"delete a path that is gone, and no other", tryDelete},
		{"compare without writing", tryCompare},
		{"name the path that cannot be shipped, and ship the others", tryFailure},
		{"wait for its list, started beforehand", tryWaiting},
	}
	done := make([]Trial, 0, len(trials))
	for _, t := range trials {
		b, err := newBench()
		if err != nil {
			return done, fmt.Errorf("try rsync: %w; make room in the folder of temporary files, or name another by TMPDIR", err)
		}
		done = append(done, Trial{t.what, t.try(ctx, b)})
		_ = os.RemoveAll(b.dir)
	}
	return done, nil
}

// bench is a root and a target to try something on.
type bench struct{ dir, root, target string }

func newBench() (*bench, error) {
	dir, err := tempDir("try")
	if err != nil {
		return nil, err
	}
	b := &bench{dir, filepath.Join(dir, "root"), filepath.Join(dir, "target")}
	return b, errors.Join(os.Mkdir(b.root, 0o700), os.Mkdir(b.target, 0o700))
}

func (b *bench) write(names ...string) error {
	for _, name := range names {
		full := filepath.Join(b.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(name), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// has returns an error unless the target has a file with that text.
func (b *bench) has(name, text string) error {
	got, err := os.ReadFile(filepath.Join(b.target, name))
	if err == nil && string(got) != text {
		err = fmt.Errorf("%q has %q instead of %q", name, got, text)
	}
	return err
}

func (b *bench) open(warm int, remove bool) (*Rsyncer, error) {
	return New(Config{Source: b.root, Target: b.target, Warm: warm, Delete: remove, Log: zerolog.Nop()})
}

func (b *bench) ship(ctx context.Context, r *Rsyncer, names ...string) (fastsync.Outcome, error) {
	changes := make([]fastsync.Change, 0, len(names))
	for _, name := range names {
		changes = append(changes, fastsync.Change{Path: name, Scope: fastsync.Entry})
	}
	out, err := r.Sync(ctx, fastsync.Live, changes)
	if err == nil && len(out.Again) > 0 {
		err = fmt.Errorf("%q counts as being written", out.Again[0].Path)
	}
	return out, err
}

// all ships names, of which none may fail.
func (b *bench) all(ctx context.Context, r *Rsyncer, names ...string) error {
	out, err := b.ship(ctx, r, names...)
	if err == nil && len(out.Failed) > 0 {
		err = fmt.Errorf("%q: %s", out.Failed[0].Path, out.Failed[0].Reason)
	}
	return err
}

func tryNames(ctx context.Context, b *bench) error {
	names := []string{"-n", "#n", ";n", " n ", "a\nb", "\xff", "*", "[n]", `a\#012b`, "d/-n"}
	r, err := b.open(0, false)
	if err = errors.Join(err, b.write(names...)); err != nil {
		return err
	}
	err = b.all(ctx, r, names...)
	for _, name := range names {
		err = errors.Join(err, b.has(name, name))
	}
	return err
}

func tryTimes(ctx context.Context, b *bench) error {
	r, err := b.open(0, false)
	if err = errors.Join(err, b.write("a")); err != nil {
		return err
	}
	whole := time.Now().Add(-time.Hour).Truncate(time.Second)
	file := filepath.Join(b.root, "a")
	err = errors.Join(os.Chtimes(file, whole, whole), b.all(ctx, r, "a"))
	later := whole.Add(time.Microsecond)
	err = errors.Join(err, os.WriteFile(file, []byte("b"), 0o600), os.Chtimes(file, later, later))
	if err != nil {
		return err
	}
	return errors.Join(b.all(ctx, r, "a"), b.has("a", "b"))
}

func tryDelete(ctx context.Context, b *bench) error {
	r, err := b.open(0, true)
	if err = errors.Join(err, b.write("d/gone", "d/stays")); err != nil {
		return err
	}
	if err := b.all(ctx, r, "d/gone", "d/stays"); err != nil {
		return err
	}
	if err := errors.Join(os.Remove(filepath.Join(b.root, "d/gone")), b.all(ctx, r, "d/gone")); err != nil {
		return err
	}
	if b.has("d/gone", "d/gone") == nil {
		return errors.New("what is gone stays")
	}
	return b.has("d/stays", "d/stays")
}

func tryCompare(ctx context.Context, b *bench) error {
	r, err := b.open(0, false)
	if err = errors.Join(err, b.write("same", "new")); err == nil {
		err = b.all(ctx, r, "same")
	}
	if err != nil {
		return err
	}
	var found []string
	if err := r.Compare(ctx, nil, func(d fastsync.Difference) {
		if !d.Times {
			found = append(found, d.Path)
		}
	}); err != nil {
		return err
	}
	if len(found) != 1 || found[0] != "new" {
		return fmt.Errorf("it finds %q where only \"new\" differs", found)
	}
	if b.has("new", "new") == nil {
		return errors.New("it ships what it should only compare")
	}
	return nil
}

func tryFailure(ctx context.Context, b *bench) error {
	r, err := b.open(0, false)
	// A file cannot take the place of a folder that has something in it.
	err = errors.Join(err, b.write("bad", "good"), os.MkdirAll(filepath.Join(b.target, "bad", "full"), 0o700))
	if err != nil {
		return err
	}
	out, err := b.ship(ctx, r, "bad", "good")
	if err == nil && (len(out.Failed) != 1 || out.Failed[0].Path != "bad") {
		err = fmt.Errorf("%d paths are named", len(out.Failed))
	}
	return errors.Join(err, b.has("good", "good"))
}

func tryWaiting(ctx context.Context, b *bench) error {
	r, err := b.open(1, false)
	if err = errors.Join(err, b.write("a")); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	defer running.Wait()
	defer stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	var kept *process
	for end := time.Now().Add(10 * time.Second); kept == nil; <-look.C {
		if kept = r.pool.oldest(r.everyday()); kept == nil && time.Now().After(end) {
			return errors.New("none waits 10 s after it was started")
		}
	}
	if err := errors.Join(b.all(ctx, r, "a"), b.has("a", "a")); err != nil {
		return err
	}
	if kept.alive() {
		return errors.New("the one that waited was not used")
	}
	return nil
}
