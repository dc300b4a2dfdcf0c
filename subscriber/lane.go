package subscriber

import (
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
}

// newLanes returns both. A path is never on both at once; what is below a
// directory of the bulk lane may be.
func newLanes() (live, bulk *lane) {
	live = &lane{batcher: newBatcher(), name: fastsync.Live, most: maxLive}
	bulk = &lane{batcher: newBatcher(), name: fastsync.Bulk, most: 1, wait: gather}
	live.free = func(p string) bool { return bulk.busy[p] == 0 }
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

// closing is a bulk batch that has run, but for what live shipped meanwhile in
// the same places: the bulk run may have put an older version over a newer, so
// these paths go round once more before the batch counts as delivered.
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

// uncross sends a bulk batch's crossed changes round again, and tells whether
// the batch has to wait for them.
func (l *loop) uncross(r result, now time.Time) bool {
	crossed := l.crossed
	l.crossed = map[fastsync.Change]bool{}
	if len(crossed) > maxCrossed && r.err == nil { // a second time there is little to do, so little is crossed
		for _, it := range r.batch {
			l.again(it, now, 0)
		}
		return true
	}
	c := &closing{result: r, left: len(crossed)}
	for change := range crossed {
		it := &item{change: change, since: now, due: now}
		if r.err == nil {
			it.after = []*closing{c}
		}
		l.live.add(it)
	}
	return len(crossed) > 0 && r.err == nil
}

// closed settles the bulk batches that waited for an item alone.
func (l *loop) closed(ctx context.Context, it *item, now time.Time) {
	after := it.after
	it.after = nil
	for _, c := range after {
		if c.left--; c.left == 0 {
			l.conclude(ctx, c.result, now)
		}
	}
}
