//go:build !linux

package watcher

import "fmt"

const mostPlaces = 0

// fanotify is a feature of Linux; elsewhere there never is one.
type fanotify struct {
	heard chan heard
	free  chan []byte
}

func openFanotify(string, int, bool) (*fanotify, error) {
	return nil, fmt.Errorf("%w: only Linux has fanotify; use --watch fsnotify", errRefused)
}

func (*fanotify) mark() error                              { return errRefused }
func (*fanotify) unmark()                                  {}
func (*fanotify) hasMark() bool                            { return false }
func (*fanotify) beneath(func(string, bool) bool) []string { return nil }
func (*fanotify) changes([]byte, func(change)) error       { return nil }
func (*fanotify) read()                                    {}
func (*fanotify) stop()                                    {}
func (*fanotify) close()                                   {}
