package subscriber

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
)

// enough is how many events the loop holds before it leaves the rest in the
// stream, which is the bound on its memory.
const enough = 10_000

// ledger is where the loop writes what became of events: the queue.
type ledger interface {
	fail(ctx context.Context, failed map[string]failedPath) error
	healed(ctx context.Context, paths []string) error
	ack(ctx context.Context, ids []string, deliveries []delivery) error
	save(ctx context.Context, s State) error
	republish(ctx context.Context, changes []fastsync.Change) (int, error)
	lapsed() bool
}

// loop owns all that a subscriber knows. Only its run method touches the
// fields; others send on its channels.
type loop struct {
	cfg   Config
	queue ledger
	log   zerolog.Logger

	entries chan []redis.XMessage
	gaps    chan gap
	runs    chan string // ids of new runs of Redis
	orders  chan string
	results chan result

	live, bulk *lane
	crossed    map[fastsync.Change]bool // ran on the live lane where a bulk batch runs
	events     atomic.Int64             // handed over and not done
	taken      int                      // of these waiting or running, the bound against enough
	retry      map[fastsync.Change]failedPath
	held       map[fastsync.Change]bool
	round      time.Time // when quarantine is tried; zero while it is empty
	state      State

	unrecordedRuns int // batches in a row whose end redis did not take

	sweep   *sweeper
	times   times
	late    late
	dirty   bool              // state has changed since it was saved
	gapped  time.Time         // when a gap was noted last
	unsaved []chan<- struct{} // who waits until the state with its gap is saved
	ending  bool
	beat    time.Time

	stopServing func() // ends what reads and listens beside the loop
}

// result is how one batch ended.
type result struct {
	lane    *lane
	batch   []*item
	outcome fastsync.Outcome
	err     error
	took    time.Duration
	partly  string // why one of the paths that its items waited for failed
}

func newLoop(cfg Config, q ledger) *loop {
	live, bulk := newLanes()
	return &loop{
		live: live, bulk: bulk, crossed: map[fastsync.Change]bool{},
		cfg: cfg, queue: q, log: cfg.Log.With().Str("target", cfg.Target).Logger(),
		entries: make(chan []redis.XMessage), gaps: make(chan gap), runs: make(chan string), orders: make(chan string),
		results: make(chan result), stopServing: func() {},
		retry: map[fastsync.Change]failedPath{}, held: map[fastsync.Change]bool{},
		sweep: newSweeper(), times: newTimes(), dirty: true,
	}
}

// run is the loop. Whatever it waits for wakes it; nothing is polled but the
// heartbeat.
func (l *loop) run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	l.requeueFailed(time.Now())
	if st := &l.state; st.Gap != "" || st.Sweep.Left > 0 || st.Sweep.Running {
		l.sweep.want("what the last process left")
		st.Sweep.Running = false
	}
	if !l.state.Heartbeat.IsZero() { // the last process was killed
		l.late.until = time.Now().Add(fastsync.LateFor)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lost error
	for {
		if err := cmp.Or(lost, l.tell(ctx, time.Now())); err != nil { // before anything starts: this process may have been stopped for long
			l.log.Warn().Err(err).Msg("another process has taken the target over; this one ends what runs and then stands by")
			l.handOver(ctx, stop)
			return err
		}
		next := earlier(l.start(work, time.Now()), l.settleTimes(work, time.Now()))
		timer.Reset(time.Until(earlier(next, l.nextBeat())))
		var entries chan []redis.XMessage
		if l.taken < enough {
			entries = l.entries
		}
		select {
		case <-ctx.Done():
			if lost = l.lastTell(work); lost == nil {
				return l.finish(work, stop)
			}
		case messages := <-entries:
			l.accept(work, messages, time.Now())
		case g := <-l.gaps:
			l.gap(g.reason)
			l.unsaved = append(l.unsaved, g.saved)
		case run := <-l.runs:
			l.state.RedisRun = run
			l.gap(restarted)
		case order := <-l.orders:
			l.obey(order, time.Now())
		case r := <-l.results:
			if lost = l.tell(ctx, time.Now()); lost != nil { // before anything is recorded, too
				go func() { l.results <- r }()
				continue
			}
			l.settle(work, r, time.Now())
		case found := <-l.sweep.found:
			l.drifted(found, time.Now())
		case err := <-l.sweep.compared:
			l.compared(err, time.Now())
		case s := <-l.times.done:
			l.settledTimes(s, time.Now())
		case <-timer.C:
		}
	}
}

// hand gives the loop events. They count as held before it has them, since whoever
// reads on compares what Redis has given with what is held here.
func (l *loop) hand(ctx context.Context, messages []redis.XMessage) {
	l.events.Add(int64(len(messages)))
	send(ctx, l.entries, messages)
}

// accept takes events in. What cannot be read as an event is acknowledged
// with a line in the log: it would never become better.
func (l *loop) accept(ctx context.Context, messages []redis.XMessage, now time.Time) {
	var bad []string
	for _, m := range messages {
		e, err := fastsync.ParseEvent(m.Values)
		if err != nil {
			l.log.Warn().Err(err).Str("event", m.ID).Msg("refused an event")
			bad = append(bad, m.ID)
			continue
		}
		l.taken++
		l.sweep.seen(e.Change)
		l.put(&item{
			change: e.Change, sources: []source{{id: m.ID, ref: e.Ref, at: e.At}}, since: now, due: now,
			bulk: e.Origin == fastsync.CatchUp && e.Scope == fastsync.Listing, // what is gone can wait; there may be thousands
		})
	}
	l.events.Add(-int64(len(bad)))
	if len(bad) > 0 {
		if err := l.queue.ack(ctx, bad, nil); err != nil {
			l.log.Warn().Err(err).Msg("could not acknowledge refused events; they come again at the next start")
		}
	}
}

// start begins batches while it may, and returns when to look again. What comes
// while all runs of a lane are busy gathers.
func (l *loop) start(ctx context.Context, now time.Time) time.Time {
	l.schedule(ctx, now)
	wake := earlier(fastsync.NextBeat(now), l.tryQuarantined(now)) // a sweep may be due by then
	wake = earlier(wake, l.shipLate(now))
	if l.queue.lapsed() { // the target may be another one's, which has newer versions
		return wake
	}
	for _, on := range []*lane{l.live, l.bulk} {
		for len(on.runs) < on.most && on.len() > 0 {
			if on.notUntil.After(now) {
				wake = earlier(wake, on.notUntil)
				break
			}
			if due := on.order[0].since.Add(on.wait); due.After(now) && on.len() < l.cfg.BatchMax {
				wake = earlier(wake, due)
				break
			}
			batch, next := on.take(now, l.cfg.BatchMax)
			if len(batch) == 0 {
				wake = earlier(wake, next)
				break
			}
			l.begin(on, batch)
			go l.ship(ctx, on, batch)
		}
	}
	return wake
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// ship runs beside the loop, which waits for each ship before it returns.
func (l *loop) ship(ctx context.Context, on *lane, batch []*item) {
	changes := make([]fastsync.Change, 0, len(batch))
	var held []fastsync.Change
	for _, it := range batch {
		if it.held {
			held = append(held, it.change)
		} else {
			changes = append(changes, it.change)
		}
	}
	begun := time.Now()
	outcome, err := l.cfg.Syncer.Sync(ctx, on.name, changes)
	outcome.Held = append(outcome.Held, held...)
	l.results <- result{lane: on, batch: batch, outcome: outcome, err: err, took: time.Since(begun)}
}

// finish lets running batches end within the grace time, then stops them.
func (l *loop) finish(ctx context.Context, stop func()) error {
	begun, grace := time.Now(), time.AfterFunc(l.cfg.Grace, stop)
	defer grace.Stop()
	l.ending = true
	l.sweep.stop()
	l.times.stop()
	for l.running() > 0 || l.sweep.comparing || l.times.running {
		select {
		case s := <-l.times.done:
			l.settledTimes(s, time.Now())
		case r := <-l.results:
			l.settle(context.WithoutCancel(ctx), r, time.Now())
		case <-l.sweep.found:
		case <-l.sweep.compared:
			l.sweep.comparing = false
		case <-l.entries:
		case g := <-l.gaps:
			l.gap(g.reason)
		case <-l.runs:
		case <-l.orders:
		}
	}
	if time.Since(begun) < l.cfg.Grace+time.Second { // else the target hangs
		l.tidy(context.WithoutCancel(ctx))
	}
	l.state.Heartbeat = time.Time{}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := l.queue.save(last, l.state); errors.Is(err, ErrServed) {
		l.log.Error().Err(err).Msg("another process has taken the target over, and this one may have shipped older versions since: run `fastsync sweep --target " + l.cfg.Target + "`")
	} else if err != nil {
		l.log.Warn().Err(err).Msg("could not save the last state")
	}
	return nil
}

// lastTell learns, where this process was away from Redis for long, whether the target
// is another one's by now.
func (l *loop) lastTell(ctx context.Context) error {
	if !l.queue.lapsed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	l.beat = time.Time{}
	return l.tell(ctx, time.Now())
}

// requeueFailed tries at a start what failed before it.
func (l *loop) requeueFailed(now time.Time) {
	for change, f := range l.retry {
		if f.Held && l.cfg.Delete {
			l.held[change] = true // an operator decides, not a restart
			continue
		}
		l.put(&item{change: change, since: now, due: now, tries: f.Tries, bulk: f.Quarantined})
	}
}

// gap notes that events may be lost; only a sweep takes the note away.
func (l *loop) gap(reason string) {
	l.log.Warn().Str("reason", reason).Msg("events may have been lost; a sweep will tell")
	l.state.Gap, l.gapped = reason, time.Now()
	l.sweep.want("gap: " + reason)
	l.dirty, l.beat = true, time.Time{} // saved at once
}

// gap is a reason why events may have been lost. Saved is closed once the state in
// Redis says so; until then nothing may be done that hides the loss from the next start.
type gap struct {
	reason string
	saved  chan<- struct{}
}

// report tells the loop of a gap, and returns whether it is saved.
func report(ctx context.Context, gaps chan<- gap, reason string) bool {
	saved := make(chan struct{})
	send(ctx, gaps, gap{reason, saved})
	select {
	case <-saved:
		return true
	case <-ctx.Done():
		return false
	}
}
