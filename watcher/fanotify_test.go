package watcher

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// eachBackend runs a test once for each kind of watch.
func eachBackend(t *testing.T, run func(t *testing.T, by func(*Watcher))) {
	for _, mode := range []string{Fsnotify, Fanotify} {
		t.Run(mode, func(t *testing.T) {
			if mode == Fanotify {
				needFanotify(t, t.TempDir())
			}
			run(t, func(w *Watcher) { w.cfg.Mode, w.status.Mode = mode, mode })
		})
	}
}

// needFanotify skips the test where the kernel refuses fanotify, unless that
// is a fault: it has all the rights, on a file system that is known to work.
func needFanotify(t *testing.T, dir string) {
	t.Helper()
	err := Probe(dir, nil)
	if err == nil {
		return
	}
	text, _ := os.ReadFile("/proc/self/mountinfo")
	good := slices.Contains([]string{"ext4", "xfs", "tmpfs"}, kindAt(parseMounts(string(text)), dir))
	if os.Getenv("CI") != "" && good && capable(unix.CAP_SYS_ADMIN) && capable(unix.CAP_DAC_READ_SEARCH) {
		t.Fatal(err)
	}
	t.Skip(err)
}

func capable(capability uint) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}
