package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// forest is a large tree of empty files, the same wherever it is planted, down
// to the times: two of them are in sync.
type forest struct {
	dirs  int
	files int // in each
}

// branch is how many directories are side by side.
const branch = 100

// planted is the time of all that a forest is made of.
var planted = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

func (f forest) dir(i int) string { return fmt.Sprintf("g%04d/d%03d", i/branch, i%branch) }

func (f forest) file(dir, i int) string { return fmt.Sprintf("%s/f%d", f.dir(dir), i) }

// plant makes the tree at root, which is new, with all cores.
func (f forest) plant(ctx context.Context, root string) error {
	workers := runtime.NumCPU()
	faults := make([]error, workers)
	var running sync.WaitGroup
	for n := range workers {
		running.Go(func() {
			for g := n; g*branch < f.dirs && faults[n] == nil; g += workers {
				faults[n] = errors.Join(ctx.Err(), f.group(root, g))
			}
		})
	}
	running.Wait()
	return errors.Join(faults...)
}

// group makes what is below one of the first level.
func (f forest) group(root string, g int) error {
	for i := g * branch; i < min((g+1)*branch, f.dirs); i++ {
		dir := filepath.Join(root, f.dir(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for k := range f.files {
			if err := sow(filepath.Join(root, f.file(i, k))); err != nil {
				return err
			}
		}
		if err := os.Chtimes(dir, planted, planted); err != nil {
			return err
		}
	}
	top := filepath.Join(root, filepath.Dir(f.dir(g*branch)))
	return os.Chtimes(top, planted, planted)
}

// sow makes an empty file of the time planted, by system calls alone: a million of them are made.
func sow(name string) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	defer unix.Close(fd)
	at := unix.NsecToTimeval(planted.UnixNano())
	return unix.Futimes(fd, []unix.Timeval{at, at})
}
