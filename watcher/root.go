package watcher

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/fastsync/fastsync"
)

// checkRoot notices a root that was removed, replaced or unmounted, which
// the kernel does not always tell, and one that came back.
func (l *loop) checkRoot() {
	info, err := os.Lstat(l.w.cfg.Root)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory any more")
	}
	if err == nil && l.root != nil && os.SameFile(l.root, info) {
		return
	}
	if err == nil {
		// An empty directory in the root's place is most likely the mount point.
		if entries, listErr := os.ReadDir(l.w.cfg.Root); listErr != nil || len(entries) == 0 {
			err = errors.Join(errors.New("another, empty directory is in its place"), listErr)
		}
	}
	if err != nil {
		l.lost(err)
		return
	}
	l.demand(time.Time{}) // also for inotify, should fanotify end here
	if l.watchRoot(info) {
		l.w.cfg.Log.Info().Msg("recovered: the root is back; publishing all of it")
	}
}

func (l *loop) lost(err error) {
	text := "the root is gone: " + err.Error()
	if l.rootError == text {
		return
	}
	l.rootError = text
	l.w.cfg.Log.Error().Err(err).Str("root", l.w.cfg.Root).Msg("the root is gone; mount it or make it again, nothing is watched until then")
	l.root = nil
	l.tree.forget(fastsync.Root)
	l.tree.walks = nil
	if l.fan != nil {
		l.fan.unmark()
	}
}

// watchRoot watches all of the root anew and tells whether it can.
func (l *loop) watchRoot(info fs.FileInfo) bool {
	if l.fan != nil && !l.mark() {
		return false
	}
	l.root, l.rootError = info, ""
	if l.fan == nil {
		l.tree.addRoot()
	}
	return true
}
