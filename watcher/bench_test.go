package watcher

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

const benched = "FASTSYNC_BENCH_START"

// BenchmarkStart starts to watch 110,101 directories beside a bare walk that
// does the same, in turn and each in a process of its own:
//
//	go test -run ^$ -bench Start -benchtime 5x ./watcher
//
// It gives the ratio of the times and the resident memory of both.
func BenchmarkStart(b *testing.B) {
	if how, root, ok := strings.Cut(os.Getenv(benched), " "); ok {
		took := map[string]func(*testing.B, string) time.Duration{"bare": bareStart, "watch": watchStart}[how](b, root)
		fmt.Fprintf(os.Stderr, "figures %d %d\n", took.Microseconds(), resident(b))
		return
	}
	root := bigTree(b, 0)
	var took, memory [2]int64
	for b.Loop() {
		for i, how := range []string{"bare", "watch"} {
			us, kb := startAlone(b, how+" "+root)
			took[i] += us
			memory[i] += kb
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "x-bare")
	b.ReportMetric(float64(memory[0])/1024/float64(b.N), "MB-bare")
	b.ReportMetric(float64(memory[1])/1024/float64(b.N), "MB")
}

func startAlone(b *testing.B, what string) (us, kb int64) {
	cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkStart$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), benched+"="+what)
	out, err := cmd.CombinedOutput()
	_, figures, ok := bytes.Cut(out, []byte("figures "))
	if _, scanErr := fmt.Sscan(string(figures), &us, &kb); err != nil || !ok || scanErr != nil {
		b.Fatalf("%v, %v\n%s", err, scanErr, out)
	}
	return us, kb
}

func bareStart(b *testing.B, root string) time.Duration {
	began := time.Now()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.Close() })
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return w.Add(path)
	})
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func watchStart(b *testing.B, root string) time.Duration {
	began := time.Now()
	w, err := New(Config{Root: root, Publisher: newFake()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	<-w.Ready()
	took := time.Since(began)
	if n := w.Status().Watched; n != directories {
		b.Fatalf("%d directories are watched, want %d", n, directories)
	}
	return took
}

func resident(b *testing.B) (kb int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(line, &kb); err != nil {
		b.Fatal(err)
	}
	return kb
}

// directories is how many bigTree makes, with paths of some 50 bytes.
const directories = 1 + 100 + 100*10 + 100*10*109

func bigTree(b *testing.B, files int) string {
	b.Helper()
	root, err := os.MkdirTemp("/dev/shm", "fastsync-bench-")
	if err != nil {
		b.Skip("no memory file system: ", err)
	}
	b.Cleanup(func() { os.RemoveAll(root) })
	for i := range 100 * 10 * 109 {
		dir := filepath.Join(root, fmt.Sprintf("uploads-%03d/art-%02d/set-%04d", i/1090, i/109%10, i%109))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			b.Fatal(err)
		}
		for k := range files {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("image-%02d.jpg", k)), nil, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	return root
}

// BenchmarkCatchUp looks for 20 changed files among 510,101 entries beside a
// bare walk that stats them all, in turn:
//
//	go test -run ^$ -bench CatchUp -benchtime 5x ./watcher
func BenchmarkCatchUp(b *testing.B) {
	root := bigTree(b, 4)
	w, err := New(Config{Root: root, Publisher: newFake(), Mode: Off, Excluded: func(string, bool) bool { return false }})
	if err != nil {
		b.Fatal(err)
	}
	w.cfg.slack = 0
	var bare, ours time.Duration
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		bareWalk(b, root)
		bare += time.Since(began)
		since := changeSome(b, root)
		began = time.Now()
		if err := w.CatchUp(b.Context(), since); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)
		if n := w.Status().CatchUpFound; n != 20 {
			b.Fatalf("it found %d, want 20", n)
		}
	}
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "x-bare")
}

func bareWalk(b *testing.B, root string) {
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			_, err = d.Info()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// changeSome returns since when, by the clock of the file system.
func changeSome(b *testing.B, root string) (since time.Time) {
	for i := range 20 {
		file := filepath.Join(root, fmt.Sprintf("uploads-%03d/art-05/set-0050/image-01.jpg", i))
		if err := os.Chmod(file, 0o600); err != nil {
			b.Fatal(err)
		}
		if info, err := os.Lstat(file); err != nil {
			b.Fatal(err)
		} else if i == 0 {
			since = ctime(info)
		}
	}
	return since
}
