package subscriber

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// handOver ends the work of a process whose target another one serves by now,
// since this one was stopped, or away from Redis, for longer than its claim. What
// runs goes on to its end, because only that proves what it has put at the target.
// It may be older than what the other one has shipped meanwhile, so all that is in
// hand here goes into the stream anew, for the other one, and nothing is recorded.
func (l *loop) handOver(ctx context.Context, stop func()) {
	l.stopServing()
	l.sweep.stop()
	l.times.stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(l.cfg.Grace, stop) })()
	hand := l.waiting()
	for again := time.Now(); ; {
		if len(hand) > 0 && !time.Now().Before(again) {
			n, err := l.queue.republish(ctx, hand)
			if hand = hand[n:]; err == nil {
				l.log.Info().Int("paths", n).Msg("handed what was in hand over")
			} else if again = time.Now().Add(time.Second); ctx.Err() != nil {
				l.log.Error().Err(err).Int("paths", len(hand)).Msg("could not hand over what was in hand: run `fastsync sweep --target " + l.cfg.Target + "`")
				hand = nil
			}
		}
		busy := l.running() > 0 || l.sweep.comparing || l.times.running
		if !busy && len(hand) == 0 {
			return
		}
		var retry <-chan time.Time
		var ended <-chan struct{}
		if len(hand) > 0 {
			retry = time.After(time.Until(again))
			if !busy { // what runs comes first
				ended = ctx.Done()
			}
		}
		select {
		case r := <-l.results:
			l.end(r)
			for _, it := range r.batch {
				if !it.held {
					hand = append(hand, it.key())
				}
			}
			hand = append(hand, r.outcome.Again...)
		case s := <-l.times.done:
			l.settledTimes(s, time.Now())
			hand = slices.AppendSeq(hand, maps.Keys(l.times.touched))
			clear(l.times.touched)
		case <-l.sweep.found:
		case <-l.sweep.compared:
			l.sweep.comparing = false
		case <-l.entries: // Redis has them as pending
		case <-l.gaps:
		case <-l.runs:
		case <-l.orders:
		case <-retry:
		case <-ended:
			again = time.Now()
		}
	}
}

// waiting is what waits here, but for what a sweep found: the other one sweeps too,
// and may hold more of it than the brake lets through.
func (l *loop) waiting() []fastsync.Change {
	hand := slices.Collect(maps.Keys(l.times.touched))
	clear(l.times.touched)
	ofSweep := func(s source) bool { return s.id == "" }
	for _, on := range []*lane{l.live, l.bulk} {
		for _, it := range on.waiting {
			if !it.held && !slices.ContainsFunc(it.sources, ofSweep) {
				hand = append(hand, it.key())
			}
		}
	}
	return hand
}

// republish adds changes to the stream as events of their own, and returns how many
// of them are there.
func (q *queue) republish(ctx context.Context, changes []fastsync.Change) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for some := range slices.Chunk(changes, page) {
		pipe := q.redis.Pipeline()
		for _, change := range some {
			e := fastsync.Event{Change: change, Origin: fastsync.Handover, At: time.Now()}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: q.keys.Events(), Values: e.Values()})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return n, fmt.Errorf("hand %d paths over: %w", len(changes)-n, err)
		}
		n += len(some)
	}
	return n, nil
}
