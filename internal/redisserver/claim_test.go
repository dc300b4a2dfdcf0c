package redisserver

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// A child that a killed fastsync was just starting holds the lock a moment longer.
func TestALockThatIsAboutToGoIsWaitedFor(t *testing.T) {
	s := &Server{cfg: Config{Dir: t.TempDir()}}
	open := func() *os.File {
		file, err := os.OpenFile(s.lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	old := open()
	if err := syscall.Flock(int(old.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if err := s.checkLock(); err == nil {
		t.Error("a lock that stays is no obstacle")
	}
	time.AfterFunc(lockPatience/5, func() { _ = old.Close() })
	if err := s.lock(open()); err != nil {
		t.Error(err)
	}
}
