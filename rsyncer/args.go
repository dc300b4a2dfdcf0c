package rsyncer

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fastsync/fastsync"
)

// kind is what a run does with the entries of its list.
type kind int

const (
	entries kind = iota
	listings
	trees
	deletes
	listingPrunes // only what is gone from a directory
	treePrunes    // only what is gone below it
	kinds
)

// deletes tells whether a run of the kind deletes what it is not told of, where
// that is on.
func (k kind) deletes() bool { return k != entries && k != deletes }

const format = "fs:" // in front of each line that is about a path; no message begins so

// sshOptions keep a dead connection from lasting, and never ask a person.
const sshOptions = " -o BatchMode=yes -o ServerAliveInterval=10 -o ServerAliveCountMax=1 -o ConnectTimeout="

// Seconds for ssh's connection up to the server's first line. An ssh that was to use
// a shared one and finds it dead, 20 s after the link was cut, connects by itself:
// that the host does not answer has to show within 30.
const (
	connectsIn = "10"
	fallsIn    = "5"
)

// remote tells whether rsync takes s for a place on another host.
func remote(s string) bool {
	host, _, found := strings.Cut(s, ":")
	return found && !strings.Contains(host, "/") && host != "" || daemon(s)
}

// daemon tells whether rsync takes s for an rsync daemon's module.
func daemon(s string) bool {
	if strings.HasPrefix(s, "rsync://") {
		return true
	}
	host, rest := "", s
	if strings.HasPrefix(s, "[") { // an IPv6 address has colons of its own
		if end := strings.IndexByte(s, ']'); end > 0 {
			host, rest = s[:end+1], s[end+1:]
		}
	}
	before, _, found := strings.Cut(rest, "::")
	return found && !strings.Contains(host+before, "/") && host+before != ""
}

// common are the arguments of every run of a lane, up to the operands.
func (r *Rsyncer) common(lane fastsync.Lane) []string {
	args := []string{
		"-lptgo", "--no-D", "--omit-dir-times",
		"--modify-window=-1", // else a rewrite of equal size within a second is never copied
		"--out-format=" + format + "%i %n", "--8-bit-output",
		"--timeout=60",                                        // no guard by itself, but it turns keepalives on
		"--mkpath", "--filter=H " + fastsync.PartialDir + "/", // the source may be a target of another fastsync
	}
	if r.trusts() {
		args = append(args, trustSender)
	}
	end := r.farEnd()
	if daemon(end) {
		args = append(args, "--no-motd")
	}
	switch {
	case r.direct():
		args = append(args, "--contimeout=10") // rsync refuses it behind a remote shell
	case remote(end):
		if lane == fastsync.Bulk && r.channels.canGiveWay() {
			n := strconv.Itoa(niceness) // for what decrypts, too: bulk has the connection for itself
			args = append(args, "--rsync-path=renice -n "+n+" -p $PPID >/dev/null 2>&1; nice -n "+n+" rsync")
		}
		shared, in := r.shared(lane), connectsIn
		if shared != "" {
			in = fallsIn
		}
		args = append(args, "--rsh="+r.shell(in)+shared)
	}
	return append(args, r.cfg.Filter.Args()...)
}

// farEnd is the one of source and target that may be on another host.
func (r *Rsyncer) farEnd() string {
	if r.pull {
		return r.source
	}
	return r.target
}

// direct tells whether rsync itself connects. host::module with a remote shell is
// a daemon behind it; rsync:// is always a connection of its own, so that one --rsh
// can serve targets of both kinds.
func (r *Rsyncer) direct() bool {
	end := r.farEnd()
	return daemon(end) && (r.cfg.Rsh == "" || strings.HasPrefix(end, "rsync://"))
}

// shell is the remote shell; one that is ssh has to connect in so many seconds.
func (r *Rsyncer) shell(in string) string {
	if r.cfg.Rsh == "" {
		return "ssh" + sshOptions + in
	}
	words := strings.Fields(r.cfg.Rsh)
	if len(words) > 0 && filepath.Base(words[0]) == "ssh" {
		return r.cfg.Rsh + sshOptions + in // ssh takes the first of two, so the operator's own win
	}
	return r.cfg.Rsh
}

// spec is what a run over a list is to do. limit is the most deletions, negative
// for any number; remove says whether to delete at all.
type spec struct {
	kind   kind
	remove bool
	limit  int
}

// args are the arguments of a run over a list.
func (r *Rsyncer) args(lane fastsync.Lane, s spec) []string {
	k, remove, limit := s.kind, s.remove, s.limit
	args := append(r.common(lane), "--partial-dir="+fastsync.PartialDir, "--files-from=-", "--from0", "--relative")
	missing := "--ignore-missing-args"
	switch k {
	case entries:
		args = append(args, "-d")
		if remove {
			args = append(args, "--force") // a file may take a directory's place
			if r.pull {
				missing = "--delete-missing-args"
			}
		}
	case listings:
		args = append(args, "-d")
		if remove {
			args = append(args, "--delete", "--force")
		}
	case trees:
		args = append(args, "-r")
		if remove {
			args = append(args, "--delete", "--force")
		}
	case deletes:
		args = append(args, "-d", "--force")
		missing = "--delete-missing-args"
	case listingPrunes, treePrunes:
		depth := map[kind]string{listingPrunes: "-d", treePrunes: "-r"}[k]
		args = append(args, depth, "--existing", "--ignore-existing", "--delete", "--force")
	}
	args = append(args, missing)
	if remove && limit >= 0 {
		args = append(args, fmt.Sprintf("--max-delete=%d", limit))
	}
	return args
}

// operands end every command line.
func (r *Rsyncer) operands(args []string) []string {
	return append(args, "--", r.source, r.target)
}

// list is what rsync reads of jobs: the slash in front keeps names that begin
// with "#" or ";" from being skipped, the one at the end asks for what is below.
func list(k kind, jobs []job) []byte {
	var out []byte
	last := ""
	for _, j := range jobs {
		if j.listed != "" {
			if j.listed != last {
				out = append(out, listing(j.listed)...)
			}
			last = j.listed
			continue
		}
		if j.path == "." {
			out = append(out, "/\x00"...)
			continue
		}
		out = append(append(out, '/'), j.path...)
		if k != entries && k != deletes && !j.alone {
			out = append(out, '/')
		}
		out = append(out, 0)
	}
	return out
}

// listing is the entry of a list that stands for all that is in a directory.
func listing(dir string) string {
	if dir == "." {
		return "/\x00"
	}
	return "/" + dir + "/\x00"
}
