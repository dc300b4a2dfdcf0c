package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measure starts a tool on fresh folders, waits until it ships, and gives it
// the single files and the burst.
func (w *world) measure(ctx context.Context, t tool, s scope) (row, error) {
	w.n++
	at := filepath.Join(w.dir, strconv.Itoa(w.n))
	source, target, own := filepath.Join(at, "source"), filepath.Join(at, "target"), filepath.Join(at, "own")
	for _, d := range []string{source, target, own} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return row{}, err
		}
	}
	if err := os.WriteFile(filepath.Join(source, "first"), nil, 0o644); err != nil {
		return row{}, err
	}
	base, err := w.baseline(ctx, s)
	if err != nil {
		return row{}, err
	}
	log, err := os.Create(filepath.Join(own, "output"))
	if err != nil {
		return row{}, err
	}
	defer func() { _ = log.Close() }()
	cmd := t.command(source, target, own)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return row{}, err
	}
	peak := watchMemory(cmd.Process.Pid)
	r := row{name: t.name, base: base}
	err = w.feed(ctx, &r, source, target, s)
	r.memory = peak()
	end(cmd)
	if state := cmd.ProcessState; state != nil {
		r.cpu = state.UserTime() + state.SystemTime()
	}
	text, _ := os.ReadFile(log.Name())
	if s.verbose {
		fmt.Printf("%s", text)
	}
	if err != nil {
		return r, fmt.Errorf("%w; it said: %s", err, text[max(0, len(text)-2000):])
	}
	return r, os.RemoveAll(at)
}

// feed makes the changes and takes the times.
func (w *world) feed(ctx context.Context, r *row, source, target string, s scope) error {
	n := 0
	err := until(ctx, s.patience, time.Second, func() bool {
		n++
		_ = os.WriteFile(filepath.Join(source, fmt.Sprintf("ready-%d", n)), nil, 0o644)
		matches, _ := filepath.Glob(filepath.Join(target, "ready-*"))
		return len(matches) > 0
	})
	if err != nil {
		return fmt.Errorf("ships nothing: %w", err)
	}
	pause(ctx, 2*time.Second)
	data := make([]byte, 50_000)
	for i := range s.files {
		pause(ctx, 150*time.Millisecond+time.Duration(rand.Int64N(int64(450*time.Millisecond))))
		name := fmt.Sprintf("single-%d", i)
		if err := os.WriteFile(filepath.Join(source, name), data, 0o644); err != nil {
			return err
		}
		closed := time.Now()
		switch err := arrive(ctx, filepath.Join(target, name), len(data), s.patience); {
		case errors.Is(err, errLate):
			r.late++
		case err != nil:
			return err
		default:
			r.singles = append(r.singles, time.Since(closed))
		}
	}
	pause(ctx, 2*time.Second)
	begun := time.Now()
	names, err := writeBurst(source, s)
	if err != nil {
		return err
	}
	for i, name := range names {
		err := arrive(ctx, filepath.Join(target, name), 10_000, s.patience-time.Since(begun))
		if errors.Is(err, errLate) {
			r.late += len(names) - i
			return nil
		} else if err != nil {
			return err
		}
	}
	r.burst = time.Since(begun)
	return nil
}

func arrive(ctx context.Context, name string, size int, patience time.Duration) error {
	return until(ctx, patience, 300*time.Microsecond, func() bool {
		info, err := os.Stat(name)
		return err == nil && info.Size() == int64(size)
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// end stops a tool and all of its process group.
func end(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

// watchMemory samples the resident memory of a process and all its
// descendants; the function that it returns ends that and gives the peak.
func watchMemory(pid int) func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, resident(pid))
			select {
			case <-tick.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-peak }
}

func resident(root int) int64 {
	parents, sizes := map[int]int{}, map[int]int64{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		sizes[pid] = pages * int64(os.Getpagesize())
	}
	var sum int64
	for pid, size := range sizes {
		for at := pid; at > 1; at = parents[at] {
			if at == root {
				sum += size
				break
			}
		}
	}
	return sum
}
