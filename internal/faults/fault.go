package main

import (
	"context"
	"os"
	"time"
)

// fault is one thing that goes wrong, and what was promised for it.
type fault struct {
	name, promised string
	// times is how often a full run injects it, 0 means 20; fast whether a fast run does, once.
	times int
	fast  bool
	// alone says that its figure is for a machine that does nothing else.
	alone bool
	// patches make the fastsync that it is for; nil is for the code as it is.
	patches []patch
	// set changes the rig before anything of it starts.
	set func(r *rig)
	// harm breaks something, and heal mends it: after the status has shown it, if
	// it must. What they have to tell goes to rig.note.
	harm, heal func(ctx context.Context, r *rig) error
	// gap says that events may be lost: then a sweep may be needed, if it was told.
	gap bool
	// asked says that an operator asks for a sweep, which then needs no gap.
	asked bool
	// shows is what status or, while that cannot answer, its error must say
	// within 30 s, a regular expression. Empty is for a fault that does no harm.
	shows string
	// settles is how long it may take after heal until the target
	// equals the root; 0 means 30 s.
	settles time.Duration
	// killed says that fastsync or rsync was killed, so that beginnings of files
	// and times of directories are left to the next sweep.
	killed bool
	// lacks says why it cannot be injected here; nil or empty where it can.
	lacks func() string
}

// needsRoot is for what only root can inject.
func needsRoot() string {
	if os.Geteuid() != 0 {
		return "only root can"
	}
	return ""
}

// faults are all, in the order of the report.
func faults() []fault {
	var all []fault
	for _, part := range [][]fault{
		redisFaults, processFaults, linkFaults, targetFaults, sourceFaults, kernelFaults, inputFaults, timeFaults,
	} {
		all = append(all, part...)
	}
	return all
}
