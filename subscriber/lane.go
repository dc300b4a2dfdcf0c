package subscriber

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// maxLive is how many batches of the live lane may run at a time; the bulk
	// lane has one.
	maxLive = 2
	// maxCrossed bounds the changes that are remembered while a bulk batch runs;
	// with more, the bulk batch itself goes round again.
	maxCrossed = 50_000
	// perDir is for how many entries of a live batch a directory counts: so that
	// both batches that may run have about as much to do while one is filled.
	perDir = 50
	// gather is how long the bulk lane waits for more: a sweep tells of its drift
	// one by one.
	gather = 100 * time.Millisecond
)

// lane is one of the two ways to the target, with what waits for it and what
// runs on it. The loop owns it.
type lane struct {
	*batcher
	name fastsync.Lane
	most int // batches at a time
	wait time.Duration
	runs [][]*item // batches that run

	failures int            // whole runs failed in a row
	class    fastsync.Class // of the last failure
	why      string         // of it; empty while runs succeed
	notUntil time.Time      // no run before this
}

// newLanes returns both. A path is never on both at once; what is below a
// directory of the bulk lane may be.
func newLanes() (live, bulk *lane) {
	live = &lane{batcher: newBatcher(), name: fastsync.Live, most: maxLive}
	bulk = &lane{batcher: newBatcher(), name: fastsync.Bulk, most: 1, wait: gather}
	live.dir = perDir
	// What changes all the time would else be the live lane's all the time.
	live.free = func(p string) bool { return bulk.busy[p] == 0 && !bulk.passed[p] }
	bulk.free = func(p string) bool { return live.busy[p] == 0 }
	return live, bulk
}

// put queues an item on its lane.
func (l *loop) put(it *item) {
	if it.bulk {
		l.bulk.add(it)
		return
	}
	l.live.add(it)
}

func (l *loop) running() int { return len(l.live.runs) + len(l.bulk.runs) }

// begin marks a batch as running.
func (l *loop) begin(on *lane, batch []*item) {
	on.runs = append(on.runs, batch)
	if on == l.live {
		l.cross(batch)
		return
	}
	for _, run := range l.live.runs {
		l.cross(run)
	}
}

// end takes a batch off its lane.
func (l *loop) end(r result) {
	r.lane.runs = slices.DeleteFunc(r.lane.runs, func(run []*item) bool { return run[0] == r.batch[0] })
	r.lane.done(r.batch)
}

// closing are items of a batch that has run, but for some paths that go round
// once more: files that were open when their directory was copied, and what live
// shipped where a bulk batch ran, since that may have put an older version over a
// newer. Only then do the items count as delivered.
type closing struct {
	result result
	left   int
}

// cross notes what runs on the live lane where a bulk batch runs.
func (l *loop) cross(batch []*item) {
	for _, it := range batch {
		if len(l.crossed) <= maxCrossed && !l.bulk.clear(it.change.Path) {
			l.crossed[it.key()] = true
		}
	}
}

// split takes from a batch what has to wait for paths that go round once more,
// queues those, and returns the rest.
func (l *loop) split(r result, now time.Time) result {
	follow := map[fastsync.Change]*item{}
	if r.lane == l.bulk {
		if len(l.crossed) > maxCrossed && r.err == nil { // a second time there is little to do, so little is crossed
			for _, it := range r.batch {
				l.again(it, now, 0)
			}
			clear(l.crossed)
			r.batch = nil
			return r
		}
		for change := range l.crossed {
			follow[change] = &item{change: change, since: now, due: now, crossed: true}
		}
		clear(l.crossed)
	}
	own := map[fastsync.Change]bool{}
	for _, it := range r.batch {
		own[it.change] = true
	}
	for _, change := range r.outcome.Again {
		if !own[change] {
			follow[change] = &item{change: change, since: now, due: now.Add(againFirst), restless: now}
		}
	}
	c := &closing{result: r, left: len(follow)}
	places := newBatcher()
	for change, it := range follow {
		if r.err == nil { // else the whole batch goes round again
			it.after = []*closing{c}
			places.mark(change.Path, 1)
		}
		l.live.add(it)
	}
	batch := r.batch
	c.result.batch, r.batch = nil, nil
	for _, it := range batch {
		if places.clear(it.change.Path) {
			r.batch = append(r.batch, it)
		} else {
			c.result.batch = append(c.result.batch, it)
		}
	}
	return r
}

// closed concludes the batches that waited for an item, which ended as why says.
func (l *loop) closed(ctx context.Context, it *item, why string, now time.Time) {
	after := it.after
	it.after = nil
	for _, c := range after {
		c.result.partly = cmp.Or(c.result.partly, why)
		if c.left--; c.left == 0 {
			l.conclude(ctx, c.result, now)
		}
	}
}
