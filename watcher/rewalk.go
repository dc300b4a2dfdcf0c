package watcher

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

// snapshot is what a directory without a watch looked like at its last walk.
type snapshot struct {
	sum   uint64 // 0 before the first walk
	since time.Time
}

// The margin finds what changed while the watch was being refused.
func newSnapshot() *snapshot { return &snapshot{since: time.Now().Add(-margin)} }

// rewalk is what a walk of the directories without a watch found.
type rewalk struct {
	began   time.Time
	since   time.Time         // what it found is no older: the walk before began then
	sums    map[string]uint64 // of every directory that was listed
	changed []string
	gone    []string
	fresh   []string // directories that nobody knew
	open    []string // files that are being written
	scarce  bool     // some could not be listed for want of descriptors
}

// rewalk looks at the directories without a watch in a goroutine of its own,
// for they may be many. Each gets another try at a watch first.
func (l *loop) rewalk(ctx context.Context) {
	if l.rewalking || len(l.tree.bare) == 0 {
		return
	}
	walk := make(map[string]snapshot, len(l.tree.bare))
	known := make(map[string]map[string]struct{}, len(l.tree.bare))
	for _, dir := range slices.Collect(maps.Keys(l.tree.bare)) {
		// Walked once more even when it gets its watch now, for what changed before.
		walk[dir], known[dir] = *l.tree.bare[dir], l.tree.known.below(dir)
		l.tree.watch(l.w.abs(dir))
	}
	l.tree.warn()
	l.rewalking = true
	l.running.Go(func() { l.rewalked <- l.w.rewalk(ctx, walk, known) })
}

func (w *Watcher) rewalk(ctx context.Context, walk map[string]snapshot, known map[string]map[string]struct{}) rewalk {
	now := time.Now()
	r := rewalk{began: now, since: now, sums: map[string]uint64{}}
	for dir, before := range walk {
		if ctx.Err() != nil {
			return r
		}
		if before.since.Before(r.since) {
			r.since = before.since
		}
		w.relist(dir, before, known[dir], &r)
	}
	return r
}

// relist compares one directory with its snapshot.
func (w *Watcher) relist(dir string, before snapshot, known map[string]struct{}, r *rewalk) {
	self, err := os.Lstat(w.abs(dir))
	if err != nil || !self.IsDir() {
		r.gone = append(r.gone, dir)
		return
	}
	entries, err := os.ReadDir(w.abs(dir))
	if err != nil {
		// As good as unchanged; the tree has told about the missing right.
		r.scarce = r.scarce || lease.Exhausted(err)
		return
	}
	sum, newest := fnv.New64a(), ctime(self)
	note := func(name string, info os.FileInfo) {
		_, _ = sum.Write(binary.LittleEndian.AppendUint64([]byte(name), uint64(ctime(info).UnixNano())))
	}
	note("", self)
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil || w.cfg.Excluded(p, e.IsDir()) {
			continue
		}
		if info.IsDir() {
			if _, ok := known[e.Name()]; !ok {
				r.fresh = append(r.fresh, p)
			}
			continue // it is walked or watched itself
		}
		note(e.Name(), info)
		changed := ctime(info)
		if changed.After(newest) {
			newest = changed
		}
		if !changed.Before(before.since) {
			if state, _ := lease.Probe(w.abs(p)); state == lease.Open {
				r.open = append(r.open, p)
			}
		}
	}
	r.sums[dir] = sum.Sum64()
	if before.sum == 0 && !newest.Before(before.since) || before.sum != 0 && before.sum != r.sums[dir] {
		r.changed = append(r.changed, dir)
	}
}

// merge takes over what a walk found.
func (l *loop) merge(r rewalk) {
	l.rewalking = false
	l.walked = r.began
	if r.scarce {
		l.demand(r.since) // which is tried until there are descriptors
	}
	for dir, sum := range r.sums {
		if s := l.tree.bare[dir]; s != nil {
			s.sum, s.since = sum, r.began.Add(-margin)
		}
	}
	for _, dir := range r.changed {
		l.w.blind.add(dir)
		l.putSince(dir, fastsync.Listing, r.since)
	}
	for _, dir := range r.gone {
		l.tree.forget(dir)
		l.putSince(dir, fastsync.Entry, r.since)
	}
	for _, dir := range r.fresh {
		if !l.tree.knows(dir) {
			l.enter(dir, r.since)
		}
	}
	for _, p := range r.open {
		l.touchSince(p, r.since)
	}
}
