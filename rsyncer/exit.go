package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fastsync/fastsync"
)

// rsync's exit codes that a run is judged by.
const (
	exitOK         = 0
	exitPartial    = 23
	exitVanished   = 24
	exitMaxDeletes = 25
)

// advice says what an exit code means and what to do.
var advice = map[int]struct {
	class fastsync.Class
	what  string
}{
	1:   {fastsync.Person, "rsync did not take its arguments: check --rsh and the target, and that rsync is 3.2.3 or newer on both sides"},
	2:   {fastsync.Person, "the two rsyncs do not speak the same protocol: update the older one"},
	3:   {fastsync.Transient, "a folder cannot be opened: check that the target's folder exists and may be entered"},
	4:   {fastsync.Person, "one side's rsync lacks a feature: update the older one"},
	5:   {fastsync.Transient, "the rsync daemon refused: check the module's name, its access rules and its limit of connections"},
	10:  {fastsync.Transient, "the connection failed: check that the target's host is up and reachable"},
	11:  {fastsync.Full, "the target cannot write: make room there, and check that its folder may be written"},
	12:  {fastsync.Transient, "the connection broke: check the network, and that rsync is installed on the other side"},
	14:  {fastsync.Person, "the remote shell cannot be started: check --rsh"},
	30:  {fastsync.Transient, "the target did not answer in time: check the network and the other side's load"},
	35:  {fastsync.Transient, "the rsync daemon did not answer in time: check that it runs and is reachable"},
	126: {fastsync.Person, "a program may not be executed: check --rsh and the rsync of both sides"},
	127: {fastsync.Person, "rsync or the remote shell was not found: install it on both sides, or check --rsh"},
	255: {fastsync.Transient, "ssh failed: check the host's address, its key in known_hosts and your key"},
}

// fault is a run that failed before rsync could say anything.
func (r *Rsyncer) fault(class fastsync.Class, what string, err error) error {
	text := fmt.Sprintf("sync to %s: %s", r.cfg.Name, what)
	if err != nil {
		text += " (" + err.Error() + ")"
	}
	return &fastsync.RunError{Class: class, Code: -1, What: text, Err: err}
}

// judge returns the error of a run that failed as a whole, nil for one whose
// paths have to be looked at one by one.
func (r *Rsyncer) judge(ctx context.Context, res result) error {
	switch {
	case ctx.Err() != nil:
		return r.fault(fastsync.Transient, "the run was stopped", ctx.Err())
	case errors.Is(res.err, errStalled):
		return r.fault(fastsync.Transient, fmt.Sprintf("no progress for %s, so rsync was ended: check the network and the target's host", r.cfg.Stall), res.err)
	case res.err != nil && res.code < 0:
		return r.fault(fastsync.Transient, "rsync was killed: check the host's memory and who ended it", res.err)
	}
	full := noRoom(res.notes)
	switch res.code {
	case exitOK, exitVanished, exitMaxDeletes:
		return nil
	case exitPartial:
		if full == "" {
			return nil
		}
		return r.exitError(fastsync.Full, res, "the target has no room: make some there", full)
	}
	known, ok := advice[res.code]
	if !ok {
		known.class, known.what = fastsync.Transient, "rsync failed: see its message"
	}
	last := cause(res.notes)
	if res.err != nil {
		last = res.err.Error()
	}
	return r.exitError(known.class, res, known.what, last)
}

func (r *Rsyncer) exitError(class fastsync.Class, res result, what, last string) error {
	text := fmt.Sprintf("sync to %s: %s (rsync exit %d", r.cfg.Name, what, res.code)
	if last != "" {
		text += ": " + last
	}
	return &fastsync.RunError{Class: class, Code: res.code, What: text + ")", Err: res.err}
}

// noRoom returns the message about a full disk or quota, if there is one.
func noRoom(notes []string) string {
	for _, n := range notes {
		if strings.Contains(n, "No space left on device") || strings.Contains(n, "Disk quota exceeded") {
			return n
		}
	}
	return ""
}

// summary tells whether a message only repeats the exit code.
func summary(note string) bool {
	return strings.HasPrefix(note, "rsync error:") || strings.HasPrefix(note, "rsync warning:")
}

// cause is the last message that says more than the exit code does.
func cause(notes []string) string {
	for i := len(notes) - 1; i >= 0; i-- {
		if !summary(notes[i]) {
			return notes[i]
		}
	}
	if len(notes) > 0 {
		return notes[len(notes)-1]
	}
	return ""
}

// reason is the message about path, or else the run's last.
func reason(notes []string, path string) string {
	for _, n := range notes {
		if names(n, path) && !summary(n) {
			return n
		}
	}
	return cause(notes)
}
