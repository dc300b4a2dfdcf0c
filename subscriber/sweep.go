package subscriber

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

// heartbeat is how often the state is written when nothing else happens.
const heartbeat = 5 * time.Second

// finding is one path that a comparison found to differ.
type finding struct {
	change fastsync.Change
	gone   bool
}

// sweeper is the loop's own view of a sweep: compare, repair through batches,
// compare again what was repaired.
type sweeper struct {
	found    chan finding
	compared chan error

	next      time.Time // when the next one is due, zero for unknown
	wanted    string    // why a sweep is due, empty for none
	id        string    // the operator's word for the next sweep
	dryRun    bool
	comparing bool
	checking  bool // comparing again what was repaired
	cancel    context.CancelFunc

	recent         map[string]bool          // paths with an event since the sweep began
	repairs        map[fastsync.Change]bool // drift that is not settled
	settledRepairs []fastsync.Change        // drift that a batch shipped
}

func newSweeper() *sweeper {
	return &sweeper{found: make(chan finding), compared: make(chan error)}
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

// seen notes that a path is on its way anyhow, so that it is not drift.
func (s *sweeper) seen(p string) {
	if s.recent != nil {
		s.recent[p] = true
	}
}

func (s *sweeper) settled(it *item, delivered bool) {
	if !s.repairs[it.change] {
		return
	}
	delete(s.repairs, it.change)
	if delivered {
		s.settledRepairs = append(s.settledRepairs, it.change)
	}
}

// schedule starts a sweep that is due and moves a running one on.
func (l *loop) schedule(ctx context.Context, now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	if sweep.Running && !s.comparing && len(s.repairs) == 0 {
		l.check(ctx, now)
		return
	}
	if sweep.Running || l.notUntil.After(now) {
		return
	}
	switch {
	case sweep.Finished.IsZero():
		s.want("the target has not been swept")
	case l.cfg.SweepEvery < 0:
	case s.next.IsZero():
		s.next = sweep.Finished.Add(jitter(l.cfg.SweepEvery))
	case now.After(s.next):
		s.want("it is time")
	}
	if s.wanted == "" {
		return
	}
	l.log.Info().Str("reason", s.wanted).Bool("dry_run", s.dryRun).Msg("sweep begins")
	l.state.Sweep = Sweep{Running: true, DryRun: s.dryRun, ID: s.id, Started: now, Finished: sweep.Finished}
	s.wanted, s.id = "", ""
	s.recent, s.repairs, s.settledRepairs = map[string]bool{}, map[fastsync.Change]bool{}, nil
	for change := range l.batch.waiting {
		s.recent[change.Path] = true
	}
	l.compare(ctx, nil)
}

// compare runs beside the loop and ends with one value in compared.
func (l *loop) compare(ctx context.Context, changes []fastsync.Change) {
	ctx, l.sweep.cancel = context.WithCancel(ctx)
	l.sweep.comparing, l.dirty = true, true
	go func() {
		l.sweep.compared <- l.cfg.Syncer.Compare(ctx, changes, func(change fastsync.Change, gone bool) {
			l.sweep.found <- finding{change, gone}
		})
	}()
}

// drifted takes one finding. What has an event of its own is no drift.
func (l *loop) drifted(f finding, now time.Time) {
	sweep := &l.state.Sweep
	l.dirty = true
	switch {
	case l.sweep.recent[f.change.Path] || l.batch.busy[f.change.Path] > 0:
		return
	case f.gone && !l.cfg.Delete:
		sweep.Extra++
		return
	}
	if _, failed := l.retry[f.change]; failed && !l.sweep.checking {
		return // known by name already, and tried again on its own schedule
	}
	if len(sweep.Names) < maxNames {
		sweep.Names = append(sweep.Names, f.change.Path)
	}
	if l.sweep.checking {
		sweep.Left++
		return
	}
	sweep.Drift++
	if sweep.DryRun {
		return
	}
	l.sweep.repairs[f.change] = true
	l.batch.add(&item{change: f.change, sources: []source{{at: now}}, since: now, due: now})
}

// compared ends the comparison; repairs that still run keep the sweep going.
func (l *loop) compared(err error, now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	s.cancel()
	s.comparing, l.dirty = false, true
	switch {
	case err != nil:
		sweep.Err = err.Error()
		l.failures++
		l.notUntil = now.Add(backoffFor(fastsync.ClassOf(err), l.failures))
		l.state.Why = err.Error()
		l.log.Error().Err(err).Msg("the sweep could not compare; trying again")
		sweep.Running, s.checking, s.recent = false, false, nil
		s.want("the last sweep failed")
	case s.checking || sweep.DryRun:
		l.swept(now)
	}
}

// check compares again what batches shipped for the sweep: equality is seen,
// not believed.
func (l *loop) check(ctx context.Context, now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	sweep.Repaired = len(s.settledRepairs)
	if len(s.settledRepairs) == 0 {
		l.swept(now)
		return
	}
	s.checking, sweep.Names = true, nil
	l.compare(ctx, s.settledRepairs)
}

func (l *loop) swept(now time.Time) {
	s, sweep := l.sweep, &l.state.Sweep
	sweep.Running, sweep.Finished, sweep.Took = false, now, now.Sub(sweep.Started)
	s.checking, s.recent, s.repairs, s.settledRepairs = false, nil, nil, nil
	if !sweep.DryRun && sweep.Left == 0 {
		l.state.Gap = ""
	}
	s.dryRun, s.next = false, time.Time{}
	l.recoveredRun()
	l.log.Info().Int("drift", sweep.Drift).Int("repaired", sweep.Repaired).Int("left", sweep.Left).
		Int("extra", sweep.Extra).Dur("took", sweep.Took).Msg("sweep ended")
}

// obey carries an operator's order out.
func (l *loop) obey(order string, now time.Time) {
	verb, id, _ := strings.Cut(order, " ")
	l.dirty = true
	switch verb {
	case "sweep", "dry-run":
		l.sweep.wanted, l.sweep.id, l.sweep.dryRun = "an operator asked", id, verb == "dry-run"
	case "release":
		for change := range l.held {
			delete(l.held, change)
			l.log.Warn().Str("path", change.Path).Msg("an operator let a held deletion through")
			l.batch.add(&item{change: fastsync.Change{Path: change.Path, Scope: change.Scope, Released: true}, since: now, due: now})
		}
	}
}

// tell writes the state when it changed, and as a heartbeat.
func (l *loop) tell(ctx context.Context, now time.Time) {
	if now.Before(l.nextBeat()) {
		return
	}
	st := &l.state
	st.Heartbeat, st.Waiting, st.Failed = now, l.batch.len(), len(l.retry)
	st.OldestAt, st.Held = time.Time{}, nil
	if len(l.batch.order) > 0 {
		st.OldestAt = l.batch.order[0].since
	}
	for change := range l.held {
		if len(st.Held) < maxNames {
			st.Held = append(st.Held, change.Path)
		}
	}
	st.Sweep.Repaired = max(st.Sweep.Repaired, len(l.sweep.settledRepairs))
	st.Health = l.health()
	l.beat, l.dirty = now, false
	if err := l.queue.save(ctx, *st); err != nil && ctx.Err() == nil {
		l.log.Debug().Err(err).Msg("could not write the state")
	}
}

// nextBeat is when the state is written next: soon after a change, and as a
// heartbeat without one.
func (l *loop) nextBeat() time.Time {
	if l.dirty {
		return l.beat.Add(heartbeat / 20)
	}
	return l.beat.Add(heartbeat)
}

func (l *loop) health() string {
	switch st := l.state; {
	case l.failures > 0:
		return "failing"
	case st.Gap != "" || st.Sweep.Left > 0 || len(l.retry) > 0 || len(l.held) > 0:
		return "degraded"
	case st.Sweep.Running:
		return "sweeping"
	}
	return "ok"
}

// jitter spreads sweeps of several targets by up to a tenth of their period.
func jitter(d time.Duration) time.Duration { return d - time.Duration(rand.Int64N(int64(d)/10+1)) }
