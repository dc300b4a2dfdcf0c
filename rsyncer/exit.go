package rsyncer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

// rsync's exit codes that a run is judged by.
const (
	exitOK         = 0
	exitProtocol   = 2
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

// known are messages that tell more than the exit code, which for a remote shell
// that ends early is 12 or 255, as chance has it. An errno ends a message of
// rsync's own; a part may be anywhere, but not in a run whose messages name
// paths: no file's name may pass for a fault of the target.
var known = []struct {
	errno, part string
	class       fastsync.Class
	what        string
}{
	{"No space left on device (28)", "", fastsync.Full, "the target has no room: make some there"},
	{"Disk quota exceeded (122)", "", fastsync.Full, "the target has no room: raise its quota"},
	{"Read-only file system (30)", "", fastsync.Full, "the target's disk is mounted read-only: look for a fault of the disk there, and mount it for writing"},
	{"", "ERROR: module is read only", fastsync.Person, "the rsync daemon's module is read-only: set `read only = no` for it in the daemon's rsyncd.conf"},
	{"", "@ERROR: Unknown module", fastsync.Person, "the rsync daemon has no such module: correct the target's name, or add the module to the daemon's rsyncd.conf"},
	{"", "@ERROR: auth failed on module", fastsync.Person, "the rsync daemon refuses the password: check RSYNC_PASSWORD or the daemon's secrets file"},
	{"", "@ERROR: max connections", fastsync.Transient, "the rsync daemon has all the connections that it allows: raise `max connections` in its rsyncd.conf"},
	{"", ": Permission denied (", fastsync.Person, "the host refuses the login: put the public key of fastsync's user into authorized_keys there, or name the right key in --rsh"},
	{"", "Host key verification failed.", fastsync.Person, "the host's key is not known, or another than before: make sure that it is the right host, then put its key into known_hosts with ssh-keyscan"},
	{"", " not responding.", fastsync.Transient, "the host does not answer any more: check the network, and that it is up"},
	{"", "ssh: Could not resolve hostname", fastsync.Transient, "the host's name is not known: correct the target, or look at the name server"},
	{"", "ssh: connect to host", fastsync.Transient, "the host does not answer: check that it is up, that its sshd runs and that no firewall is between"},
	{"", "ERROR: rejecting unrequested file-list name", fastsync.Person, "rsync takes a file's name for a pattern, and only a confined pull lets it pass: rename the file, pull on a newer kernel, or push from the media host"},
	{"", "ABORTING due to invalid path from sender", fastsync.Transient, "what a path is in became a link or a file while rsync looked: it is tried again by itself"},
	{"", "rsync: command not found", fastsync.Person, "the host has no rsync: install it there"},
	{"", "rsync: not found", fastsync.Person, "the host has no rsync: install it there"},
}

// recognise finds what is known of the messages of a run: a fault of the whole
// run, not of a path.
func recognise(res result) (class fastsync.Class, what, note string) {
	for _, n := range res.notes {
		if summary(n) || echo(n) {
			continue
		}
		for _, k := range known {
			own := strings.HasPrefix(n, "rsync: ")
			if k.errno != "" && own && strings.HasSuffix(n, k.errno) ||
				k.part != "" && !own && res.code != exitPartial && strings.Contains(n, k.part) {
				return k.class, k.what, n
			}
		}
	}
	return 0, "", ""
}

// echo tells whether a message only says that the other side has gone; why is
// in another one.
func echo(note string) bool {
	if !strings.HasPrefix(note, "rsync: ") {
		return false
	}
	for _, part := range []string{"connection unexpectedly closed", "Broken pipe (32)", "Connection reset by peer (104)"} {
		if strings.Contains(note, part) {
			return true
		}
	}
	return false
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
		what := fmt.Sprintf("sync to %s: %v, so rsync was ended: check the network and the target's host", r.cfg.Name, res.err)
		return &fastsync.RunError{Class: fastsync.Transient, Code: -1, What: what, Err: res.err}
	case res.err != nil && res.code < 0:
		return r.fault(fastsync.Transient, "rsync was killed: check the host's memory and who ended it", res.err)
	case lease.Exhausted(res.err), errors.Is(res.err, unix.EAGAIN):
		return r.fault(fastsync.Transient, "this host has no descriptors, processes or memory left to start rsync: raise LimitNOFILE and TasksMax of fastsync's service, or its memory", res.err)
	}
	switch res.code {
	case exitOK, exitVanished, exitMaxDeletes:
		return nil
	}
	if class, what, note := recognise(res); what != "" {
		text := fmt.Sprintf("sync to %s: %s (%s)", r.cfg.Name, what, note)
		return &fastsync.RunError{Class: class, Code: res.code, What: text, Err: res.err}
	}
	if res.code == exitPartial {
		return nil
	}
	code, ok := advice[res.code]
	if !ok {
		code.class, code.what = fastsync.Transient, "rsync failed: see its message"
	}
	last := cause(res.notes)
	if res.err != nil {
		last = res.err.Error()
	}
	return r.exitError(code.class, res, code.what, last)
}

func (r *Rsyncer) exitError(class fastsync.Class, res result, what, last string) error {
	text := fmt.Sprintf("sync to %s: %s (rsync exit %d", r.cfg.Name, what, res.code)
	if last != "" {
		text += ": " + last
	}
	return &fastsync.RunError{Class: class, Code: res.code, What: text + ")", Err: res.err}
}

// summary tells whether a message only repeats the exit code, or what rsync says
// of a path that is gone with its directory, which is no fault.
func summary(note string) bool {
	for _, begin := range []string{"rsync error:", "rsync warning:", "WARNING: parent dir is absent in the file list:"} {
		if strings.HasPrefix(note, begin) {
			return true
		}
	}
	return false
}

// cause is the last message that says more than the exit code does, else the
// last.
func cause(notes []string) string {
	last := ""
	for _, n := range notes {
		if last == "" || !summary(n) && !echo(n) {
			last = n
		}
	}
	return last
}

// verdictOn is by the message about path, or else by the run's last.
func (r *Rsyncer) verdictOn(path string, k kind, notes []string) verdict {
	for _, n := range notes {
		if !summary(n) && r.names(n, path, k) {
			return verdict{reason: n, own: true}
		}
	}
	return verdict{reason: cause(notes)}
}

// vanished tells whether rsync found a path, or a directory that it is in, and then did
// not any more.
func vanished(note string) bool {
	return strings.HasPrefix(note, "file has vanished: ") || strings.HasPrefix(note, "directory has vanished: ")
}

// belowNoDirectory tells whether the sender says that what a path should be in
// is no directory any more: then what that is now has to ship. A daemon that follows
// no links says it in its own way.
func belowNoDirectory(note string) bool {
	return strings.HasPrefix(note, "rsync: [sender] ") &&
		(strings.HasSuffix(note, "Not a directory (20)") || strings.HasSuffix(note, "Too many levels of symbolic links (40)"))
}

// nowhere tells whether a path, or a directory that it is in, was not where rsync came
// by: the source had something else in that place, or nothing.
func nowhere(note string) bool {
	return vanished(note) || strings.HasPrefix(note, "rsync: [") &&
		(strings.HasSuffix(note, "Not a directory (20)") || strings.HasSuffix(note, "No such file or directory (2)"))
}
