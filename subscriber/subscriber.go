// Package subscriber owns delivery to one target.
//
// It reads the events stream through a consumer group of its own, gathers
// events into deduplicated batches, hands them to a [Syncer], and acknowledges
// an event only when its path is at the target or recorded by name as failed.
// A sweep, now and then or after a gap, proves that nothing was missed.
//
// It does not know rsync, and it never writes to the target by itself.
package subscriber

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/fastsync/fastsync"
)

// Syncer ships changes to the target and compares the target with the root.
type Syncer interface {
	// Sync ships over a lane; an error means that the run failed as a whole.
	Sync(ctx context.Context, lane fastsync.Lane, changes []fastsync.Change) (fastsync.Outcome, error)
	// Compare calls found for each difference. Without changes it compares the
	// whole root, with the times of directories.
	// An [fastsync.Unread] error names what could not be compared.
	Compare(ctx context.Context, changes []fastsync.Change, found func(fastsync.Difference)) error
	// Tidy removes the beginnings of files that cut runs left at the target.
	Tidy(ctx context.Context, changes []fastsync.Change) error
	// Settle sets the times of the directories that the changes touched.
	Settle(ctx context.Context, changes []fastsync.Change) error
}

// Config is what a Subscriber needs.
type Config struct {
	Redis redis.UniversalClient
	// Reads is a client for the reads that wait in Redis for events. Run closes
	// it, which alone ends them at once; its read timeout is to be longer than
	// [ReadWait]. Nil means Redis, and reads that wait for a second at most.
	Reads  redis.UniversalClient
	Keys   fastsync.Keys
	Target string
	// Destination is shown in status.
	Destination string
	// Pair names the root and the destination in full, which the target's name stands
	// for while it is served.
	Pair string
	// Unconfined is shown in status: why the kernel does not hold rsync to the
	// root and the target; empty where it does.
	Unconfined string
	// Unlocked is shown in status: why rsync may read a file that is opened for
	// writing meanwhile; empty where it does not.
	Unlocked string
	Syncer   Syncer
	// Delete tells whether what is gone from the root is drift.
	Delete bool
	// MaxDelete is the most deletions that a sweep makes without an operator; 0 means 1,000.
	MaxDelete int
	// Durable says that this Redis comes back from a restart with all that it
	// has acknowledged. From another one a restart is a gap.
	Durable bool
	// BatchMax is the most changes a batch may have; 0 means 5,000.
	BatchMax int
	// SweepEvery is the time between sweeps; 0 means 1 h, negative means only at the start of a new target and after a gap.
	SweepEvery time.Duration
	// Grace is how long a running batch may go on after the end; 0 means 5 s.
	Grace time.Duration
	Log   zerolog.Logger
}

// Subscriber serves one target.
type Subscriber struct {
	cfg   Config
	queue *queue
}

// New returns a Subscriber; it does no I/O.
func New(cfg Config) *Subscriber {
	if cfg.MaxDelete == 0 {
		cfg.MaxDelete = 1000
	}
	if cfg.BatchMax == 0 {
		cfg.BatchMax = 5000
	}
	if cfg.SweepEvery == 0 {
		cfg.SweepEvery = time.Hour
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Second
	}
	q := &queue{redis: cfg.Redis, reads: cfg.Redis, block: briefly, patience: orphaned, keys: cfg.Keys, group: cfg.Target, pair: cfg.Pair, holder: newHolder()}
	if cfg.Reads != nil {
		q.reads, q.block = cfg.Reads, ReadWait
	}
	return &Subscriber{cfg: cfg, queue: q}
}

// Run stands by while another process serves the target, and then serves it until
// ctx ends. A running batch may finish within the grace time; what was not finished
// stays in Redis for the next start. An error that wraps [ErrServed] says that
// another process has taken the target over, and that all work here has ended.
func (s *Subscriber) Run(ctx context.Context) error {
	l := newLoop(s.cfg, s.queue)
	state, alive, err := s.begin(ctx, l)
	if err != nil {
		return nil // only the end of ctx stops begin
	}
	l.state = state
	g, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	l.stopServing = stop
	if s.cfg.Reads != nil {
		defer context.AfterFunc(serving, func() { _ = s.cfg.Reads.Close() })()
	}
	g.Go(func() error { return s.read(serving, l) })
	g.Go(func() error { return s.guard(serving, l.gaps) })
	g.Go(func() error { return s.restarts(serving, state.RedisRun, l.runs) })
	present, leave := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return s.listen(present, alive, l.orders) })
	g.Go(func() error {
		defer leave() // others may see this one gone once nothing runs any more
		return l.run(ctx)
	})
	err = g.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	s.queue.release(last)
	return err
}

// begin claims the target and reads what the last process left, for as long as
// Redis needs to be there and another process to end. With the state it returns
// the subscription by which others see that this one lives.
func (s *Subscriber) begin(ctx context.Context, l *loop) (State, *redis.PubSub, error) {
	last := ""
	for {
		state, alive, err := s.take(ctx, l)
		if err == nil {
			if last != "" {
				s.cfg.Log.Info().Str("target", s.cfg.Target).Msg("recovered: this process serves the target now")
			}
			return state, alive, nil
		}
		if ctx.Err() == nil && last != err.Error() {
			last = err.Error()
			level, what := zerolog.ErrorLevel, "cannot reach redis; trying again until it is there"
			switch {
			case errors.Is(err, errTaken):
				what = "waiting until the other process ends; give this target another name if both are meant"
			case errors.Is(err, ErrServed):
				level, what = zerolog.InfoLevel, "standing by: this process takes over when the other one ends"
			}
			s.cfg.Log.WithLevel(level).Err(err).Str("target", s.cfg.Target).Msg(what)
		}
		if !pause(ctx, time.Second) {
			return State{}, nil, ctx.Err()
		}
	}
}

// take is one attempt to begin.
func (s *Subscriber) take(ctx context.Context, l *loop) (state State, alive *redis.PubSub, err error) {
	claim, err := s.queue.vacant(ctx)
	if err != nil {
		return state, nil, err
	}
	if alive, err = s.queue.announce(ctx); err != nil {
		return state, nil, err
	}
	if err = s.queue.hold(ctx, claim); err == nil {
		state, err = s.queue.open(ctx, l.retry)
	}
	if err == nil {
		err = s.regroup(ctx, &state)
	}
	if err == nil {
		err = s.recall(ctx, &state)
	}
	if err != nil {
		_ = alive.Close()
		return state, nil, err
	}
	s.introduce(&state)
	return state, alive, nil
}

// introduce writes into the state of the last process who this one is.
func (s *Subscriber) introduce(state *State) {
	if state.Pair != "" && state.Pair != s.cfg.Pair {
		state.Gap = "the target was another one before, " + state.Pair
		s.cfg.Log.Warn().Str("target", s.cfg.Target).Str("before", state.Pair).Str("now", s.cfg.Pair).Msg("the target is another one than before; a sweep will tell what it lacks")
	}
	state.Target, state.Destination, state.Pair, state.Delete = s.cfg.Target, s.cfg.Destination, s.cfg.Pair, s.cfg.Delete
	state.Holder, state.Why = s.queue.holder, "" // this one has not tried yet
	state.Unconfined, state.Unlocked = s.cfg.Unconfined, s.cfg.Unlocked
}

// ReadWait is how long a read over [Config.Reads] may wait in Redis. go-redis does
// not interrupt it, so that over a client that others use it is briefly.
const ReadWait, briefly = 20 * time.Second, time.Second

// read moves entries from the group to the loop: its own history first, then
// what is new. The loop takes none while it has enough; the stream waits.
func (s *Subscriber) read(ctx context.Context, l *loop) error {
	gaps := l.gaps
	trimmed := unread(ctx, gaps)
	after, last, failing := "0", "", "" // last is the newest event known to be in the loop's hands
	var strangers since
	told := false // that the group is gone
	for ctx.Err() == nil {
		if s.queue.lapsed() && errors.Is(s.queue.hold(ctx, ""), ErrServed) {
			<-ctx.Done() // the loop learns it too; what comes is the other one's
			return nil
		}
		asked, held := time.Now(), l.events.Load()
		got, err := s.queue.read(ctx, after, trimmed)
		if errors.Is(err, errNoGroup) {
			if told = told || report(ctx, gaps, ungrouped); !told {
				return nil
			}
			if err = s.queue.makeGroup(ctx); err == nil {
				after, told = "0", false
				continue
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if failing != err.Error() {
				failing = err.Error()
				s.cfg.Log.Error().Err(err).Msg("cannot read events; trying again")
			}
			pause(ctx, time.Second)
			continue
		}
		if failing != "" {
			failing = ""
			s.cfg.Log.Info().Msg("recovered: events are read again")
		}
		messages := got.messages
		switch {
		case after == ">" && strangers.longer(got.pending > held, asked, s.queue.patience):
			s.cfg.Log.Info().Str("target", s.cfg.Target).Int64("events", got.pending-held).Msg("taking over events that another process has read and not delivered")
			after = "0" // what was just read is in the history too
			continue
		case after != ">" && len(messages) == 0:
			after, last = ">", got.before
			continue
		case after != ">":
			after = messages[len(messages)-1].ID
			messages = withBody(ctx, s.queue, messages, gaps)
		case idLess(last, got.before):
			after = last // a reply was lost on its way: all since then is history now
			continue
		case len(messages) == 0:
			continue
		default:
			last = messages[len(messages)-1].ID
		}
		l.hand(ctx, messages)
	}
	return nil
}

func unread(ctx context.Context, gaps chan<- gap) told {
	return func(lost int64) bool {
		return report(ctx, gaps, fmt.Sprintf("%d events were trimmed unread: the stream reached its cap", lost))
	}
}

// withBody drops history entries whose body was trimmed away unread.
func withBody(ctx context.Context, q *queue, messages []redis.XMessage, gaps chan<- gap) []redis.XMessage {
	kept := messages[:0]
	var lost []string
	for _, m := range messages {
		if m.Values == nil {
			lost = append(lost, m.ID)
			continue
		}
		kept = append(kept, m)
	}
	if len(lost) > 0 && report(ctx, gaps, fmt.Sprintf("%d events were trimmed before they were delivered", len(lost))) {
		_ = q.ack(ctx, lost, nil)
	}
	return kept
}

// guard looks for gaps that no read shows, as while the loop takes none, and
// trims what every group has done. At rest there is nothing of either.
func (s *Subscriber) guard(ctx context.Context, gaps chan<- gap) error {
	trimmed := unread(ctx, gaps)
	for pause(ctx, fastsync.BeatWithin(fastsync.Beat)) {
		if !s.queue.worked() {
			continue
		}
		if _, err := s.queue.overtaken(ctx, trimmed); err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug().Err(err).Msg("could not look for events that were trimmed unread")
		}
		if err := s.queue.trim(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug().Err(err).Msg("could not trim the events stream")
		}
	}
	return nil
}

func send[T any](ctx context.Context, out chan<- T, v T) {
	select {
	case out <- v:
	case <-ctx.Done():
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
