package redisserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func (s *Server) pidFile() string  { return filepath.Join(s.cfg.Dir, "redis-server.pid") }
func (s *Server) lockFile() string { return filepath.Join(s.cfg.Dir, "redis-server.lock") }

// claim makes the directories and keeps every other fastsync out of them until
// release is called: two servers on one append-only file destroy it.
func (s *Server) claim(ctx context.Context) (release func(), err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w; give another --state-dir", err)
	}
	if err := os.Chmod(s.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("close state directory to others: %w; give another --state-dir", err)
	}
	lock, err := os.OpenFile(s.lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the state directory: %w", err)
	}
	if err := s.lock(lock); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	err = s.awaitOld(ctx)
	if err == nil {
		err = s.makeSocketDir()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return func() {
		s.removeSocket()
		_ = lock.Close() // the lock goes with the descriptor
	}, nil
}

// checkLock tells whether another fastsync holds the state directory, without
// making anything.
func (s *Server) checkLock() error {
	lock, err := os.OpenFile(s.lockFile(), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the lock of the state directory: %w", err)
	}
	defer lock.Close()
	return s.lock(lock)
}

// lockPatience is how long a fastsync that was killed may still hold its lock: a
// child that it was just starting has a copy until it becomes another program.
const lockPatience = time.Second

func (s *Server) lock(file *os.File) error {
	var err error
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPatience / 50) {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("another fastsync runs its redis-server in %s: stop it, or give another --state-dir", s.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("lock state directory %s: %w", s.cfg.Dir, err)
	}
	return nil
}

// awaitOld waits for the child of a fastsync that was killed: the kernel has
// told it to end, and it may still be writing.
func (s *Server) awaitOld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	for {
		pid := s.oldChild()
		if pid == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("redis-server (pid %d) of an earlier fastsync still uses %s: "+
				"stop it with: kill %d", pid, s.cfg.Dir, pid)
		}
		pause(ctx, lastLook/5)
	}
}

// oldChild returns the process that the pid file names, 0 if it has ended or if
// the number now belongs to something else.
func (s *Server) oldChild() int {
	text, err := os.ReadFile(s.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return 0
	}
	words := strings.Split(string(line), "\x00")
	at := slices.Index(words, "--dir")
	if at < 0 || at+1 >= len(words) || words[at+1] != s.cfg.Dir {
		return 0
	}
	return pid
}

// writePID replaces the file in one step: a torn number could name a stranger.
func writePID(path string, pid int) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, fmt.Appendln(nil, pid), 0o600); err != nil {
		return fmt.Errorf("note the pid of redis-server: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("note the pid of redis-server: %w", err)
	}
	return nil
}
