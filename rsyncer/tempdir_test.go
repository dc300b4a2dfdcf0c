package rsyncer

import (
	"os"
	"path/filepath"
	"testing"
)

// A kill can come while something is tried out at a start.
func TestFoldersOfKilledProcessesAreRemoved(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	write(t, tmp, "fastsync-try-999999999-1/from/file", "of one that was killed")
	write(t, tmp, "fastsync-trying", "of somebody else")
	dir, err := tempDir("try")
	if err != nil {
		t.Fatal(err)
	}
	again, err := tempDir("try")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{dir: true, again: true, filepath.Join(tmp, "fastsync-trying"): true}
	left, err := filepath.Glob(filepath.Join(tmp, "*"))
	if err != nil || len(left) != len(want) {
		t.Errorf("%v (%v) are left, want %v", left, err, want)
	}
	for p := range want {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
}
