package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// profile begins a CPU profile when FASTSYNC_PROFILE names a folder; what it
// returns writes that and one of the heap there. docs/BENCHMARKS.md tells more.
func profile() (stop func()) {
	dir := os.Getenv("FASTSYNC_PROFILE")
	if dir == "" {
		return func() {}
	}
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "fastsync: no profile: %v; FASTSYNC_PROFILE names a folder that exists\n", err)
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		if err := errors.Join(cpu.Close(), writeHeap(filepath.Join(dir, "heap.pprof"))); err != nil {
			fmt.Fprintln(os.Stderr, "fastsync: write a profile:", err)
		}
	}
}

func writeHeap(name string) error {
	heap, err := os.Create(name)
	if err != nil {
		return err
	}
	runtime.GC() // so that what is still in use is exact
	return errors.Join(pprof.WriteHeapProfile(heap), heap.Close())
}
