package subscriber

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// maxRecent bounds the paths that a sweep knows to be on their way; what
	// is not remembered is at worst repaired for nothing.
	maxRecent = 200_000
	// maxRepairs bounds the drift that one sweep repairs; for the rest it is
	// followed by another.
	maxRepairs = 50_000
)

// sweeper is the loop's own view of a sweep: compare, repair through batches,
// compare again what was repaired.
type sweeper struct {
	found    chan fastsync.Difference
	compared chan error

	next      time.Time // when the next one is due, zero for unknown
	wanted    string    // why a sweep is due, empty for none
	orders    []order   // of operators, oldest first
	comparing bool
	checking  bool // comparing again what was repaired
	cancel    context.CancelFunc

	recent         map[string]int           // path → width of its widest event since the sweep began
	running        map[string]bool          // paths of batches that ran when the sweep began
	gone           int                      // drift that only a deletion repairs
	repairs        map[fastsync.Change]bool // drift that is not settled
	settledRepairs []fastsync.Change        // drift that a batch shipped
	owed           map[fastsync.Change]bool // drift that no batch could ship yet
	more           bool                     // there is drift beyond maxRepairs

	lefts   int       // sweeps in a row that left something that no batch is to ship
	recheck time.Time // when to sweep again for that; zero for not

	failures int       // comparisons failed in a row
	notUntil time.Time // no sweep before this
}

func newSweeper() *sweeper {
	return &sweeper{found: make(chan fastsync.Difference), compared: make(chan error)}
}

func (s *sweeper) want(why string) {
	if s.wanted == "" {
		s.wanted = why
	}
}

func (s *sweeper) stop() {
	if s.cancel != nil {
		s.cancel()
	}
}

// seen notes that a change is on its way anyhow, so that it is not drift.
func (s *sweeper) seen(c fastsync.Change) {
	if s.recent != nil && len(s.recent) < maxRecent {
		s.recent[c.Path] = max(s.recent[c.Path], c.Scope.Width())
	}
}

// expects tells whether what was seen of a path covers a change of it.
func (s *sweeper) expects(c fastsync.Change) bool { return s.recent[c.Path] >= c.Scope.Width() }

func (s *sweeper) settled(it *item, delivered bool) {
	change := it.key()
	if delivered && s.owed[change] {
		if delete(s.owed, change); len(s.owed) == 0 {
			s.want("what the last sweep left was shipped since")
		}
	}
	if !s.repairs[change] {
		return
	}
	delete(s.repairs, change)
	if delivered {
		s.settledRepairs = append(s.settledRepairs, change)
	} else {
		s.owed[change] = true
	}
}

// schedule starts a sweep that is due and moves a running one on.
func (l *loop) schedule(ctx context.Context, now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	if sweep.Running && !s.comparing && len(s.repairs) == 0 {
		l.check(ctx, now)
		return
	}
	if sweep.Running || l.live.notUntil.After(now) || l.bulk.notUntil.After(now) || s.notUntil.After(now) {
		return
	}
	switch {
	case sweep.Finished.IsZero():
		s.want("the target has not been swept")
	case !s.recheck.IsZero() && now.After(s.recheck):
		s.want("what the last sweep left")
	case l.cfg.SweepEvery < 0:
	case s.next.IsZero():
		s.next = sweep.Finished.Add(jitter(l.cfg.SweepEvery))
	case now.After(s.next):
		s.want("it is time")
	}
	if s.wanted == "" && len(s.orders) == 0 {
		return
	}
	var by order
	reason := s.wanted
	if len(s.orders) > 0 {
		by, s.orders, reason = s.orders[0], s.orders[1:], "an operator asked"
	}
	if !by.dryRun { // which would repair nothing
		s.wanted = ""
	}
	if s.failures == 0 { // else it is told when it can compare again
		l.log.Info().Str("reason", reason).Bool("dry_run", by.dryRun).Msg("sweep begins")
	}
	l.state.Sweep = Sweep{Running: true, DryRun: by.dryRun, ID: by.id, Started: now, Finished: sweep.Finished}
	s.more, s.gone = false, 0
	s.recent, s.repairs, s.settledRepairs = map[string]int{}, map[fastsync.Change]bool{}, nil
	s.running = map[string]bool{}
	if !by.dryRun {
		s.owed, s.recheck = map[fastsync.Change]bool{}, time.Time{}
	}
	for _, on := range []*lane{l.live, l.bulk} {
		for p := range on.busy {
			s.running[p] = true
		}
		for change := range on.waiting {
			if _, failed := l.retry[change]; !failed {
				s.seen(change)
			}
		}
	}
	l.compare(ctx, nil)
}

// compare runs beside the loop and ends with one value in compared.
func (l *loop) compare(ctx context.Context, changes []fastsync.Change) {
	ctx, l.sweep.cancel = context.WithCancel(ctx)
	l.sweep.comparing, l.dirty = true, true
	go func() {
		l.sweep.compared <- l.cfg.Syncer.Compare(ctx, changes, func(d fastsync.Difference) { l.sweep.found <- d })
	}()
}

// drifted takes one difference. What has an event of its own is no drift, nor is what
// a batch ships that began after the sweep: one before it may have been done with the
// path when an event that was lost came.
func (l *loop) drifted(d fastsync.Difference, now time.Time) {
	sweep := &l.state.Sweep
	l.dirty = true
	switch {
	case d.Times:
		if !sweep.DryRun {
			l.times.later(d.Change)
		}
		return
	case l.sweep.expects(d.Change):
		return
	case d.Scope == fastsync.Entry && !l.sweep.running[d.Path] && l.live.busy[d.Path]+l.bulk.busy[d.Path] > 0:
		return
	case d.Gone && path.Base(d.Path) == fastsync.PartialDir:
		l.leftover(d.Change)
		return
	case d.Gone && !l.cfg.Delete:
		sweep.Extra++
		return
	}
	if len(sweep.Names) < maxNames {
		sweep.Names = append(sweep.Names, d.Path)
	}
	if l.sweep.checking {
		sweep.Left++
		return
	}
	sweep.Drift++
	if sweep.DryRun {
		return
	}
	if _, failed := l.retry[d.Change]; failed {
		l.sweep.owed[d.Change] = true // known by name already, and tried again on its own schedule
		return
	}
	if len(l.sweep.repairs)+len(l.sweep.settledRepairs) >= maxRepairs {
		l.sweep.more = true
		return
	}
	l.sweep.repairs[d.Change] = true
	if d.Gone {
		l.sweep.gone++
	}
	held := d.Gone && (l.sweep.gone > l.cfg.MaxDelete || len(l.held) > 0)
	l.bulk.add(&item{change: d.Change, sources: []source{{at: now}}, since: now, due: now, held: held, bulk: true})
}

// compared ends the comparison; repairs that still run keep the sweep going.
func (l *loop) compared(err error, now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	s.cancel()
	s.comparing, l.dirty = false, true
	var unread *fastsync.Unread
	if errors.As(err, &unread) {
		for _, f := range unread.Failures {
			l.drifted(fastsync.Difference{Change: f.Change}, now) // the batch that fails on it says why
		}
		err = nil
	}
	switch {
	case err != nil:
		s.failures++
		s.notUntil = now.Add(backoffFor(fastsync.ClassOf(err), s.failures))
		sweep.Err, sweep.Running = err.Error(), false
		l.answer(now)
		l.state.SweepFault = err.Error()
		s.checking, s.recent, s.repairs = false, nil, nil
		if !sweep.DryRun {
			s.want("the last sweep failed")
		}
		if s.failures == 1 && l.state.Why != err.Error() { // a batch has told it
			l.log.Error().Err(err).Time("again", s.notUntil).Msg("the sweep could not compare; trying again")
		}
	case s.checking || sweep.DryRun:
		l.swept(now)
	}
}

// check compares again what batches shipped for the sweep: equality is seen,
// not believed.
func (l *loop) check(ctx context.Context, now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	sweep.Repaired, sweep.Left = len(s.settledRepairs), len(s.owed)
	if len(s.settledRepairs) == 0 {
		l.swept(now)
		return
	}
	s.checking, sweep.Names = true, nil
	s.running = nil // what ran then has ended where it was in the way of a repair
	l.compare(ctx, s.settledRepairs)
}

// swept ends a sweep. Only one that found equality closes a gap, and none that came
// after its beginning; a dry run proves as much where it finds nothing, but it is
// never the next sweep's turn.
func (l *loop) swept(now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	sweep.Running, sweep.Took, l.dirty = false, now.Sub(sweep.Started), true
	if sweep.DryRun {
		sweep.Left = sweep.Drift
	} else {
		sweep.Finished, s.next = now, time.Time{}
		l.lookAgain(now)
	}
	if sweep.Left == 0 && !s.more && !l.gapped.After(sweep.Started) {
		l.state.Gap = ""
	}
	if s.failures > 0 {
		l.log.Info().Int("failures", s.failures).Msg("recovered: the sweep can compare again")
	}
	s.failures, s.notUntil, l.state.SweepFault = 0, time.Time{}, ""
	s.checking, s.recent, s.repairs, s.settledRepairs = false, nil, nil, nil
	l.answer(now)
	if s.more && sweep.Repaired > 0 { // else the next would end as this one
		s.want("the last sweep found more than one repairs")
	}
	l.log.Info().Int("drift", sweep.Drift).Int("repaired", sweep.Repaired).Int("left", sweep.Left).
		Int("extra", sweep.Extra).Dur("took", sweep.Took).Msg("sweep ended")
}

// lookAgain sweeps again soon when repaired paths still differed: most likely
// they changed meanwhile.
func (l *loop) lookAgain(now time.Time) {
	s := l.sweep
	if l.state.Sweep.Left <= len(s.owed) { // what batches still try is swept when it is shipped
		s.lefts = 0
		return
	}
	s.lefts++
	s.recheck = now.Add(delay(pathFirst, pathMost, s.lefts))
}

// jitter spreads sweeps of several targets by up to a tenth of their period.
func jitter(d time.Duration) time.Duration { return d - time.Duration(rand.Int64N(int64(d)/10+1)) }
