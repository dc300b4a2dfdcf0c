package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestProfilesAreLeftWhereAskedFor(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FASTSYNC_PROFILE", dir)
	profile()()
	for _, name := range []string{"cpu.pprof", "heap.pprof"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	t.Setenv("FASTSYNC_PROFILE", filepath.Join(dir, "missing"))
	profile()() // says so, and goes on
}
