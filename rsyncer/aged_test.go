package rsyncer

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// rewritten gives a file other content of the same size, and its time back.
func rewritten(t *testing.T, file, text string) {
	t.Helper()
	info, err := os.Stat(file)
	must(t, err)
	if int(info.Size()) != len(text) {
		t.Fatal("another size")
	}
	must(t, os.WriteFile(file, []byte(text), 0o644))
	must(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
}

// A file is given new content of the same size and its old time, as cp -p and tar
// do. By size and time rsync finds no difference.
func TestNewContentWithTheOldTime(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, cfg Config, target string) {
		aged, quiet, dir := filepath.Join(cfg.Source, "aged"), filepath.Join(cfg.Source, "quiet"), filepath.Join(cfg.Source, "d", "aged")
		old := time.Now().Add(-time.Hour)
		for _, file := range []string{aged, dir} {
			must(t, os.MkdirAll(filepath.Dir(file), 0o755))
			must(t, os.WriteFile(file, []byte("one"), 0o644))
			must(t, os.Chtimes(file, old, old))
		}
		must(t, os.WriteFile(quiet, []byte("one"), 0o644))
		r := open(t, cfg)
		all := entry("aged", "quiet", "d/aged")
		toCompare := func(changes ...fastsync.Change) []fastsync.Change {
			out, err := r.Sync(t.Context(), fastsync.Live, changes)
			must(t, err)
			clean(t, out)
			return out.Bulk
		}
		if got := toCompare(all...); len(got) > 0 {
			t.Errorf("new at the target, and to compare by content: %v", got)
		}
		must(t, os.Chmod(aged, 0o600)) // which rsync tells of
		if got := toCompare(all[:2]...); len(got) > 0 {
			t.Errorf("to compare by content: %v", got)
		}
		rewritten(t, aged, "two")
		rewritten(t, dir, "two")
		got := toCompare(append(all, scoped("d", fastsync.Listing)...)...)
		if len(got) != 2 || !slices.Contains(got, all[0]) || !slices.Contains(got, all[2]) {
			t.Fatalf("to compare by content: %v", got)
		}
		clean(t, shipBulk(t, r, got))
		for _, p := range []string{"aged", "d/aged"} {
			if got := read(target, p); got != "two" {
				t.Errorf("%s at the target has %q", p, got)
			}
		}
	})
}
