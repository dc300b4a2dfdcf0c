package rsyncer

import (
	"time"

	"github.com/fastsync/fastsync"
)

// parted notes a run that ended, or was ended, before its other end: that may have got
// files which it still puts at the target, after those of a later run.
func (r *Rsyncer) parted(res result) {
	if !remote(r.target) || answered(res) || res.items == 0 && res.code >= 0 {
		return // that end is ours, or has ended, or has got nothing
	}
	now := time.Now()
	r.broke.Store(&now)
}

// late tells whether that was a short while ago.
func (r *Rsyncer) late() bool {
	at := r.broke.Load()
	return at != nil && time.Since(*at) < fastsync.LateFor
}
