package watcher

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// burst is how long an event waits for others: the kernel tells creation
	// and each write of one file within it, so that they become one event. Each
	// single file waits for it; 500 µs were 5 % of its way to the target.
	burst = 100 * time.Microsecond
	// most is how many events are kept while the publisher does not take
	// them, some 30 MB; more become a catch-up.
	most = 100_000
)

// waiting is an event that was not handed to the publisher.
type waiting struct {
	fastsync.Event
	since time.Time // no earlier than this is its first change
	// relisted is of a new directory: what another one of its name had may have to go.
	relisted bool
}

// put makes an event ready. Of two for one path the wider scope stays.
func (g *gatherer) put(p string, scope fastsync.Scope) { g.putSince(p, scope, g.good) }

func (g *gatherer) putSince(p string, scope fastsync.Scope, since time.Time) {
	if fastsync.CheckPath(p) != nil {
		g.w.cfg.Log.Error().Str("path", p).Msg("a path is too long to be shipped; shorten it")
		return
	}
	now := time.Now()
	old, ok := g.ready[p]
	if ok {
		if old.Scope.Width() > scope.Width() {
			scope = old.Scope
		}
		if old.since.Before(since) {
			since = old.since
		}
	} else if len(g.ready) == 0 {
		if g.flushAt = now.Add(burst); g.breathe.After(g.flushAt) {
			g.flushAt = g.breathe
		}
	}
	g.ready[p] = waiting{since: since, relisted: old.relisted, Event: fastsync.Event{
		Change: fastsync.Change{Path: p, Scope: scope}, Origin: fastsync.Watch, At: now,
	}}
}

// putMade makes the event of an empty directory ready that was made just now. What
// comes into it is told.
func (g *gatherer) putMade(dir string, since time.Time) {
	g.putSince(dir, fastsync.Entry, since)
	if r, ok := g.ready[dir]; ok && g.w.blind.made(dir) {
		r.relisted = true
		g.ready[dir] = r
	}
}

// flush hands what is ready to the publisher if that is free. When too much
// waits, it drops plain entries and returns since when a catch-up finds them.
func (g *gatherer) flush(ctx context.Context) (missed time.Time, full bool) {
	if len(g.ready) > g.w.cfg.most {
		missed = g.shed()
		return missed, true
	}
	now := time.Now()
	if g.flying || len(g.ready) == 0 || now.Before(g.flushAt) {
		return time.Time{}, false
	}
	if len(g.ready) >= many {
		g.breathe = now.Add(breath)
	}
	g.fold(now)
	events := make([]fastsync.Event, 0, len(g.ready))
	g.flyingSince = now
	for _, r := range g.ready {
		events = append(events, r.Event)
		if r.relisted && r.Scope == fastsync.Entry { // as a catch-up tells it, for which no new file waits
			r.Scope, r.Origin = fastsync.Listing, fastsync.CatchUp
			events = append(events, r.Event)
		}
		if r.since.Before(g.flyingSince) {
			g.flyingSince = r.since
		}
	}
	// A directory before what is in it: who reads them one by one ships it first,
	// and does not find it held up by its files.
	slices.SortFunc(events, func(a, b fastsync.Event) int {
		return cmp.Or(b.Scope.Width()-a.Scope.Width(), strings.Compare(a.Path, b.Path))
	})
	g.ready, g.flushAt, g.flying = map[string]waiting{}, time.Time{}, true
	g.running.Go(func() {
		if err := g.w.cfg.Publisher.Publish(ctx, events...); err != nil {
			return // ctx ended; the checkpoint stays before these events
		}
		g.published <- struct{}{}
	})
	return time.Time{}, false
}

// shed drops everything that waits. A catch-up cannot find what was moved in
// as a tree, so those stay, unless they alone are too many.
func (g *gatherer) shed() time.Time {
	oldest := time.Now()
	kept := map[string]waiting{}
	for p, r := range g.ready {
		if r.since.Before(oldest) {
			oldest = r.since
		}
		if r.Scope == fastsync.Tree {
			kept[p] = r
		}
	}
	g.ready = kept
	if len(kept) > g.w.cfg.most/2 {
		g.ready = map[string]waiting{}
		return time.Time{}
	}
	return oldest.Add(-margin)
}
