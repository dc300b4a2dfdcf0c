package lease

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func want(t *testing.T, path string, want State) {
	t.Helper()
	got, err := Probe(path)
	if got != want || err != nil {
		t.Errorf("Probe(%s) = %v, %v; want %v", filepath.Base(path), got, err, want)
	}
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	want(t, file, Open)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, file, Closed)
	want(t, file, Closed) // the first probe left nothing behind

	link, fifo := filepath.Join(dir, "l"), filepath.Join(dir, "p")
	if err := os.Symlink("f", link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, link, Special)
	want(t, fifo, Special)
	want(t, dir, Special)
	want(t, filepath.Join(dir, "none"), Gone)
	want(t, filepath.Join(file, "below"), Gone)
}

func TestReadersDoNotMatter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want(t, file, Closed)
}

// A writer that comes while the lease is held breaks it, which sends SIGIO.
func TestBrokenLeaseDoesNotEndTheProcess(t *testing.T) {
	if err := unix.Kill(os.Getpid(), unix.SIGIO); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				done <- err
				return
			}
			f.Close()
		}
	}()
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if got, err := Probe(file); err != nil || got != Open && got != Closed {
			t.Fatalf("Probe = %v, %v", got, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
