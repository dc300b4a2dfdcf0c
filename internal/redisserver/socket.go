package redisserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocket is the longest path of a Unix socket in bytes: sun_path holds 108
// with the NUL at the end.
const maxSocket = 107

// URL is the address of the server's Unix socket, as go-redis's ParseURL and
// --redis take it. It is known before the server runs.
func (s *Server) URL() string {
	return (&url.URL{Scheme: "unix", Path: s.socket}).String()
}

// socketPath is redis.sock in dir or, where that is too long for a socket, in a
// directory whose name follows from dir, so that every command of the same user
// finds the same one.
func socketPath(dir string) (string, error) {
	if path := filepath.Join(dir, "redis.sock"); len(path) <= maxSocket {
		return path, nil
	}
	name := fmt.Sprintf("fastsync-%d-%x", os.Getuid(), sha256.Sum256([]byte(dir)))[:32]
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		path := filepath.Join(base, name, "redis.sock")
		if filepath.IsAbs(base) && len(path) <= maxSocket {
			return path, nil
		}
	}
	return "", fmt.Errorf("the path of the state directory %q is too long for a socket: give a shorter --state-dir", dir)
}

// makeSocketDir makes the socket's own directory where it has one. In a
// directory that everybody may write, somebody else may have been first.
func (s *Server) makeSocketDir() error {
	dir := filepath.Dir(s.socket)
	if dir == s.cfg.Dir {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a directory for the socket: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the directory for the socket: %w", err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !known || int(owner.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a private directory of this user: remove it, or give a shorter --state-dir", dir)
	}
	return nil
}

// removeSocket clears up what a child that was killed left behind.
func (s *Server) removeSocket() {
	_ = os.Remove(s.socket) // usually gone with the child
	if dir := filepath.Dir(s.socket); dir != s.cfg.Dir {
		_ = os.Remove(dir)
	}
}
