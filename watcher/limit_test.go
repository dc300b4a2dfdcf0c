package watcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fastsync/fastsync"
)

const limited = "FASTSYNC_TEST_WATCH_LIMIT"

// TestNoWatchesLeft runs itself again in a user namespace of its own, where
// the limit can be set.
func TestNoWatchesLeft(t *testing.T) {
	if os.Getenv(limited) == "" {
		if exec.Command("unshare", "-Ur", "true").Run() != nil {
			t.Skip("no user namespaces here")
		}
		cmd := exec.Command("unshare", "-Ur", os.Args[0], "-test.run=^TestNoWatchesLeft$", "-test.v")
		cmd.Env = append(os.Environ(), limited+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("5"), 0); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	for i := range 20 {
		if err := os.Mkdir(filepath.Join(root, "d"+strconv.Itoa(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, root, nil)
	if s := r.Status(); s.Watched != 5 || s.Unwatched != 16 || !strings.Contains(s.Reason, "max_user_watches") {
		t.Fatalf("status %+v", s)
	}
	for i := range 20 {
		r.write("d" + strconv.Itoa(i) + "/f")
	}
	for i := range 20 {
		dir := "d" + strconv.Itoa(i)
		r.wait(t, dir, func(events []fastsync.Event) bool {
			return count(events, dir, fastsync.Listing)+count(events, dir+"/f", "") > 0
		})
	}
	r.must(os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("1000"), 0))
	eventually(t, "all watched", func() bool { return r.Status().Unwatched == 0 })
}

func TestNewReturnsAllFaults(t *testing.T) {
	_, err := New(Config{Root: "/does/not/exist", Mode: "x"})
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "mode") || !strings.Contains(err.Error(), "publisher") {
		t.Errorf("New = %v", err)
	}
}
