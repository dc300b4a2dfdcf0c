package watcher

import (
	"path"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// many events at once are a burst, and many of one young directory its listing.
	many = 32
	// breath is how long events gather after a burst, of which more is to come.
	breath = 20 * time.Millisecond
	// young is how long a directory counts as new. It cannot hold much then, so
	// that its listing costs a target no more than the names would.
	young = 2 * time.Second
	// mostYoung bounds what is remembered, some 1 MB.
	mostYoung = 8192
)

// born notes that a directory was made just now.
func (g *gatherer) born(dir string, now time.Time) {
	if len(g.young) < mostYoung {
		g.young[dir] = now
	}
}

// isYoung tells whether a directory, or one above it, was made just now.
func (g *gatherer) isYoung(dir string) bool {
	for ; dir != fastsync.Root; dir = path.Dir(dir) {
		if _, ok := g.young[dir]; ok {
			return true
		}
	}
	return false
}

// fold lets one listing stand for many entries of a directory that is being
// filled: through Redis, a batch and rsync's list, each name costs by itself.
func (g *gatherer) fold(now time.Time) {
	for dir, at := range g.young {
		if now.Sub(at) > young {
			delete(g.young, dir)
		}
	}
	if len(g.young) == 0 || len(g.ready) < many {
		return
	}
	entries := map[string]int{}
	for p, r := range g.ready {
		if r.Scope == fastsync.Entry && !r.relisted {
			entries[path.Dir(p)]++
		}
	}
	for dir, n := range entries {
		if n < many || !g.isYoung(dir) {
			delete(entries, dir)
		}
	}
	for p, r := range g.ready {
		if dir := path.Dir(p); r.Scope == fastsync.Entry && !r.relisted && entries[dir] > 0 {
			delete(g.ready, p)
			g.putSince(dir, fastsync.Listing, r.since)
		}
	}
}
