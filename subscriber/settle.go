package subscriber

import (
	"context"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

// settle takes a finished batch apart: what is delivered or recorded as
// failed is acknowledged, the rest goes round again.
func (l *loop) settle(ctx context.Context, r result, now time.Time) {
	l.end(r)
	l.dirty = true
	if r.err == nil && !r.outcome.Untried {
		l.times.touch(r.batch, now)
	}
	l.conclude(ctx, l.split(r, now), now)
}

// conclude writes how a batch ended.
func (l *loop) conclude(ctx context.Context, r result, now time.Time) {
	if r.err != nil {
		l.failedRun(r, now)
		return
	}
	if !r.outcome.Untried {
		l.recoveredRun(r.lane)
	}
	if len(r.batch) == 0 {
		return
	}
	done := l.sort(r, now)
	for _, it := range done.needless {
		l.closed(ctx, it, "", now)
	}
	if err := l.record(ctx, done, now); err != nil {
		l.unrecorded(err, done, now)
		return
	}
	if l.unrecordedRuns > 0 {
		l.log.Info().Int("batches", l.unrecordedRuns).Msg("recovered: batches are recorded in redis again")
		l.unrecordedRuns = 0
	}
	for _, it := range done.delivered {
		l.closed(ctx, it, "", now)
	}
	for it, why := range done.failed {
		l.closed(ctx, it, why, now)
	}
	l.log.Info().Str("lane", string(r.lane.name)).Int("paths", len(r.batch)).Int("deleted", r.outcome.Deleted).Int("failed", len(done.failed)).
		Int("again", len(r.outcome.Again)).Dur("took", r.took).Msg("batch shipped")
}

// sorted is a batch by how each item ended.
type sorted struct {
	delivered []*item
	failed    map[*item]string
	// partly are delivered trees and listings with a failed path below.
	partly map[*item]string
	// needless were to go round once more, and are for the bulk lane: so live had
	// shipped none of them before, or has events of what made them large since.
	needless []*item
}

func (s sorted) all() []*item {
	all := s.delivered
	for it := range s.failed {
		all = append(all, it)
	}
	return all
}

func (l *loop) sort(r result, now time.Time) sorted {
	s := sorted{failed: map[*item]string{}, partly: map[*item]string{}}
	why := map[fastsync.Change]string{}
	for _, f := range r.outcome.Failed {
		why[f.Change] = f.Reason
	}
	again, held, bulk, waits := set(r.outcome.Again), set(r.outcome.Held), set(r.outcome.Bulk), set(r.outcome.Waits)
	for _, it := range r.batch {
		it.cut = it.cut || r.outcome.Cut
		it.late = r.outcome.Late || now.Before(l.late.until)
		reason, bad := why[it.change]
		switch {
		case bad:
			delete(l.held, it.key()) // it is there again, and fails otherwise
			s.failed[it] = reason
		case waits[it.change]:
			l.again(it, now, againFirst)
		case again[it.change] && !l.restless(it, now):
			it.tries++
			if it.restless.IsZero() {
				it.restless = now
			}
			l.again(it, now, delay(againFirst, againMost, it.tries))
		case bulk[it.change] && it.crossed:
			s.needless = append(s.needless, it)
		case bulk[it.change]:
			it.bulk = true
			l.again(it, now, 0)
		case again[it.change]:
			s.failed[it] = restless
		case held[it.change]:
			l.held[it.key()] = true
			s.failed[it] = "deletion held: more deletions than --max-delete; look, then let them through with `fastsync sweep --release --target " + l.cfg.Target + "`"
		default:
			s.delivered = append(s.delivered, it)
			if r.partly != "" {
				s.partly[it] = r.partly
			}
		}
	}
	l.sortBelow(why, r.batch, &s, now)
	return s
}

// restless is why a path fails whose file never stood still for one run.
const restless = "its file was open for writing or changed during every run for a minute; it ships once its writer is done"

// restless tells whether an item went round for so long that nothing may wait
// for it any more: no sweep, no ref, no event.
func (l *loop) restless(it *item, now time.Time) bool {
	return !it.restless.IsZero() && now.Sub(it.restless) > againFor || l.retry[it.key()].Why == restless
}

// sortBelow takes in the failures that no item of the batch names: paths
// below a tree or a listing.
func (l *loop) sortBelow(why map[fastsync.Change]string, batch []*item, s *sorted, now time.Time) {
	for _, it := range batch {
		delete(why, it.change)
	}
	for change, reason := range why {
		s.failed[&item{change: change, since: now}] = reason
		for _, it := range batch {
			if it.change.Path == fastsync.Root || strings.HasPrefix(change.Path, it.change.Path+"/") {
				s.partly[it] = reason
			}
		}
	}
}

func set(changes []fastsync.Change) map[fastsync.Change]bool {
	m := make(map[fastsync.Change]bool, len(changes))
	for _, c := range changes {
		m[c] = true
	}
	return m
}

// again puts an item back with the events it carries.
func (l *loop) again(it *item, now time.Time, after time.Duration) {
	it.due = now.Add(after)
	l.put(it)
}

// record writes failed paths first, then deliveries, then acknowledges: a
// crash in between repeats work and loses none.
func (l *loop) record(ctx context.Context, s sorted, now time.Time) error {
	var ids, healed []string
	var deliveries []delivery
	report := func(it *item, why string) {
		for _, src := range it.sources {
			if src.id == "" {
				continue
			}
			ids = append(ids, src.id)
			deliveries = append(deliveries, delivery{src.id, it.change.Path, src.ref, why, now.Sub(src.at)})
		}
	}
	for _, it := range s.delivered {
		report(it, s.partly[it])
		for c := range covered(it.key()) {
			if _, was := l.retry[c]; was {
				healed = append(healed, it.change.Path)
				break
			}
		}
	}
	failed := map[string]failedPath{}
	for it, why := range s.failed {
		report(it, why)
		f, listed := l.retry[it.key()]
		if !listed && len(l.retry)+len(failed) >= maxFailed {
			continue
		}
		if f.Since.IsZero() {
			f.Since = now
		}
		f.Why, f.Scope, f.Tries, f.Held = why, it.change.Scope, f.Tries+1, l.held[it.key()]
		f.Quarantined = quarantined(f)
		failed[it.change.Path] = f
	}
	entries, healed := l.listing(s, failed, healed)
	if err := l.queue.fail(ctx, entries); err != nil {
		return err
	}
	if err := l.queue.healed(ctx, healed); err != nil {
		return err
	}
	if err := l.queue.ack(ctx, ids, deliveries); err != nil {
		return err
	}
	l.events.Add(-int64(len(ids)))
	l.taken -= len(ids)
	l.remember(s, failed, now)
	return nil
}

// remember keeps the loop's own picture in step with what record wrote.
func (l *loop) remember(s sorted, failed map[string]failedPath, now time.Time) {
	for _, it := range s.delivered {
		for c := range covered(it.key()) {
			delete(l.retry, c)
			delete(l.held, c)
		}
		l.sweep.settled(it, true)
		if it.cut {
			l.times.leave(it.key())
		}
		if it.late && l.late.note(it.key(), now) {
			l.sweep.want("more was shipped after a run broke than is looked at one by one")
		}
	}
	if len(s.delivered) > 0 {
		l.state.Delivered += int64(len(s.delivered))
		l.state.LastDelivery = now
	}
	braked := 0
	for it, why := range s.failed {
		f, listed := failed[it.change.Path]
		l.sweep.settled(it, false)
		if !listed {
			l.state.Gap = "more than 100,000 paths fail, so not all are listed: mend what the listed ones say"
			continue
		}
		old := l.retry[it.key()]
		switch {
		case old.Why == why:
		case f.Held:
			braked++
		default:
			l.log.Error().Str("path", it.change.Path).Str("why", why).Msg("cannot ship a path; it is listed and tried again later")
		}
		l.retry[it.key()] = f
		if f.Held {
			continue // an operator decides
		}
		if f.Quarantined {
			l.quarantine(it.change.Path, old, f, now)
			continue
		}
		most := pathMost
		if why == restless {
			most = restlessMost
		}
		l.again(&item{change: it.key(), since: now, tries: f.Tries, cut: it.cut, bulk: it.bulk}, now, delay(pathFirst, most, f.Tries))
	}
	if braked > 0 {
		l.log.Warn().Int("paths", braked).Msg("deletions held: more than --max-delete; fastsync status names them and what to do")
	}
}
