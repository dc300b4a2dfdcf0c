package subscriber

import (
	"iter"
	"maps"

	"github.com/fastsync/fastsync"
)

// listing is what to write into the failed hash, which knows one scope of each
// path: the widest of those that fail.
func (l *loop) listing(s sorted, failed map[string]failedPath, healed []string) (map[string]failedPath, []string) {
	delivered := map[fastsync.Change]bool{}
	for _, it := range s.delivered {
		for c := range covered(it.key()) {
			delivered[c] = true
		}
	}
	entries := maps.Clone(failed)
	for p, f := range failed {
		if other, ok := l.widest(p, delivered); ok && other.Scope.Width() > f.Scope.Width() {
			entries[p] = other
		}
	}
	var gone []string
	for _, p := range healed {
		if _, fails := failed[p]; fails {
			continue
		}
		if other, ok := l.widest(p, delivered); ok {
			entries[p] = other
		} else {
			gone = append(gone, p)
		}
	}
	return entries, gone
}

// covered are a change and those of its path that look at less, the widest first.
func covered(c fastsync.Change) iter.Seq[fastsync.Change] {
	return func(yield func(fastsync.Change) bool) {
		for _, scope := range [...]fastsync.Scope{fastsync.Tree, fastsync.Listing, fastsync.Entry} {
			if scope.Width() <= c.Scope.Width() && !yield(fastsync.Change{Path: c.Path, Scope: scope}) {
				return
			}
		}
	}
}

// widest is how p fails in its widest scope, but for what was delivered.
func (l *loop) widest(p string, delivered map[fastsync.Change]bool) (failedPath, bool) {
	for change := range covered(fastsync.Change{Path: p, Scope: fastsync.Tree}) {
		if f, ok := l.retry[change]; ok && !delivered[change] {
			return f, true
		}
	}
	return failedPath{}, false
}
