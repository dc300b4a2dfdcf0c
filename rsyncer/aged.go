package rsyncer

import (
	"io/fs"
	"syscall"
	"time"

	"github.com/fastsync/fastsync"
)

// atOnce is how soon after its content the inode of a file changes, unless
// somebody has set its time.
const atOnce = time.Second

// aged tells whether a regular file may have new content and its old time, as
// `cp -p`, `tar x` and touch leave it: then size and time, by which rsync knows
// what differs, tell nothing. Nor do whole seconds.
func aged(info fs.FileInfo) bool {
	if info == nil || !info.Mode().IsRegular() {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	late := time.Duration(st.Ctim.Nano() - st.Mtim.Nano())
	return late < 0 || late > atOnce || st.Mtim.Nsec == 0
}

// tell notes that a run said something of an aged path: it was new there, or its
// size, its time or its rights differed.
func (g *group) tell(p string) {
	if g.told == nil {
		g.told = map[string]bool{}
	}
	g.told[p] = true
}

// doubt takes from jobs the aged files with an event of their own of which the
// run said nothing: their contents have to be compared, which reads them at both
// ends. The live lane leaves that to the bulk lane.
func (s *session) doubt(g *group, jobs []job, open map[string]verdict) (sure, doubted []job) {
	for _, j := range jobs {
		_, bad := covering(open, j.path)
		if !j.aged || bad || g.told[j.path] {
			sure = append(sure, j)
			continue
		}
		own, others := j, j
		own.aged, own.listed, own.changes, others.changes = false, "", nil, nil
		for _, c := range j.changes {
			if c.Path == j.path && c.Scope == fastsync.Entry {
				own.changes = append(own.changes, c)
			} else {
				others.changes = append(others.changes, c)
			}
		}
		if s.lane == fastsync.Live {
			s.outcome.Bulk = append(s.outcome.Bulk, own.changes...)
		} else if len(own.changes) > 0 {
			doubted = append(doubted, own)
		}
		if len(others.changes) > 0 {
			sure = append(sure, others)
		}
	}
	return sure, doubted
}
