// Package fastsync is the vocabulary of fastsync: the words that its parts
// use to talk to one another, and nothing else.
//
// An agent publishes an [Event] for each path that may have changed, Redis
// carries it, and one subscriber per target turns events into a [Change] set
// that a syncer ships. An event never says what happened to a path, only where
// to look: the disk is the truth.
//
// The package imports the standard library only and does no I/O.
package fastsync

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// MaxPath is the longest path in bytes that an event may carry. rsync cuts
// entries of its list at 4,095 bytes, the "/" in front of each included.
const MaxPath = 4000

// Root is the path of the root itself, the one path that is not below it.
const Root = "."

// ErrPath is wrapped by every error that CheckPath returns.
var ErrPath = errors.New("not a path below the root")

// CheckPath tells whether p is a path as every part may rely on it: local,
// clean, slash-separated, relative to the root, without NUL, at most
// [MaxPath] bytes. [Root] is allowed.
func CheckPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("empty: %w", ErrPath)
	case len(p) > MaxPath:
		return fmt.Errorf("%d bytes, at most %d are allowed: %w", len(p), MaxPath, ErrPath)
	case strings.IndexByte(p, 0) >= 0:
		return fmt.Errorf("contains NUL: %w", ErrPath)
	case !filepath.IsLocal(p):
		return fmt.Errorf("leads out of the root: %w", ErrPath)
	case filepath.Clean(p) != p:
		return fmt.Errorf("has an empty, \".\" or \"..\" part or a trailing slash: %w", ErrPath)
	}
	return nil
}
