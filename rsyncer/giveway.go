package rsyncer

import (
	"syscall"

	"github.com/fastsync/fastsync"
)

// niceness is what bulk's processes have, on both sides where that can be: a
// video can keep every core busy, and a photo passes six processes in turn.
const niceness = 10

// giveWay lets a group of processes give way to others if it works for bulk, which
// nobody needs a right for.
func giveWay(lane fastsync.Lane, group int) {
	if lane == fastsync.Bulk {
		_ = syscall.Setpriority(syscall.PRIO_PGRP, group, niceness)
	}
}
