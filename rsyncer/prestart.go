package rsyncer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

// prestart starts an rsync that waits for its list, unless it would wait in
// another directory than the root.
func (r *Rsyncer) prestart(s spec, ch *channel) (*process, error) {
	if !r.pull {
		if info, err := os.Stat(r.source); err != nil {
			return nil, fmt.Errorf("look at the source: %w", err)
		} else if !os.SameFile(info, r.root) {
			return nil, fmt.Errorf("the source %s is another directory than at the start", r.source)
		}
	}
	if !remote(r.target) { // which is made when there is something to put there
		if _, err := os.Stat(r.target); err != nil {
			return nil, fmt.Errorf("look at the target: %w", err)
		}
	}
	proc, err := r.start(fastsync.Live, r.operands(r.args(fastsync.Live, s)), ch)
	if err == nil { // not all too old at the same time
		if !r.pull && s.kind != deletes { // where a version that does not skip it finds nothing, and deletes nothing
			proc.mark()
		}
		age := r.age()
		proc.until = time.Now().Add(age - time.Duration(rand.Int64N(int64(age)/4+1)))
	}
	return proc, err
}

// age is the longest that a started rsync is kept.
func (r *Rsyncer) age() time.Duration {
	if daemon(r.farEnd()) {
		return min(r.limits.module, r.limits.age)
	}
	return r.limits.age
}

// inPlace tells whether a started rsync still has the directories of now.
func (r *Rsyncer) inPlace(p *process) bool { return r.inRoot(p.pid) && r.atTarget(p) }

// atTarget tells whether a local target's folder is the one that a started rsync
// may write to.
func (r *Rsyncer) atTarget(p *process) bool {
	if remote(r.target) || p.target == nil {
		return true
	}
	now, err := os.Stat(r.target)
	return err == nil && os.SameFile(now, p.target)
}

// inRoot tells whether a started rsync is in the root, or has not gone there
// yet: it stays in a directory whose name another has taken since.
func (r *Rsyncer) inRoot(pid int) bool {
	if r.pull {
		return true
	}
	at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	if os.SameFile(at, r.root) {
		return true
	}
	own, err := os.Stat(".")
	return err == nil && os.SameFile(at, own)
}

// mark begins its list with an entry that rsync skips, as it does all that begin
// so: once that is read, the login is over.
func (p *process) mark() {
	_, err := p.stdin.Write([]byte("#\x00"))
	p.marked = err == nil
}

// waits tells whether it is known to wait for its list.
func (p *process) waits() bool {
	unread := -1
	if raw, err := p.stdin.SyscallConn(); err == nil && p.marked {
		_ = raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		return err == nil && unread == 0 && p.alive()
	}
	return false
}
