package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// deliver does what rsync does: a temporary file that gets its name when whole.
func deliver(t *testing.T, root, name string, size int) {
	t.Helper()
	temp := filepath.Join(root, filepath.Dir(name), "."+filepath.Base(name)+".Xa1b2c")
	if err := os.WriteFile(temp, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(root, name)); err != nil {
		t.Fatal(err)
	}
}

func TestArrivalsAreToldOfWholeFilesOnly(t *testing.T) {
	root := t.TempDir()
	a, err := newArrivals(root, 5, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	a.expect("x", "late")
	deliver(t, root, "x", 3) // a part of it
	deliver(t, root, "unexpected", 5)
	if err := a.wait(t.Context(), 50*time.Millisecond, nil); !errors.Is(err, lab.ErrLate) {
		t.Fatalf("a part counted as whole: %v", err)
	}
	before := time.Now()
	deliver(t, root, "x", 5)
	if err := a.wait(t.Context(), 200*time.Millisecond, nil); !errors.Is(err, lab.ErrLate) {
		t.Fatal(err)
	}
	if at := a.when("x"); at.Before(before) || time.Since(at) > time.Second {
		t.Errorf("came at %s", at)
	}
	if late := a.forget(); len(late) != 1 || late[0] != "late" {
		t.Errorf("late: %q", late)
	}
	if err := a.wait(t.Context(), time.Second, nil); err != nil {
		t.Errorf("nothing is expected, yet: %v", err)
	}
}

func TestArrivalsLookIntoNewDirectories(t *testing.T) {
	root := t.TempDir()
	a, err := newArrivals(root, 1, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	names := []string{"a/b/c/one", "a/b/two", "a/three"}
	a.expect(names...)
	for _, name := range names { // at once: most is there before its directory is watched
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		deliver(t, root, name, 1)
	}
	if err := a.wait(t.Context(), 5*time.Second, nil); err != nil {
		t.Fatalf("%v, late: %q", err, a.forget())
	}
}

func TestWaitEndsWithTheToolAndWithTheContext(t *testing.T) {
	a, err := newArrivals(t.TempDir(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	a.expect("never")
	ended := make(chan struct{})
	close(ended)
	if err := a.wait(t.Context(), time.Minute, ended); !errors.Is(err, errEnded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.wait(ctx, time.Minute, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
