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
	hand := map[fastsync.Change]bool{}
	for l.running() > 0 || l.sweep.comparing || l.times.running {
		select {
		case r := <-l.results:
			l.end(r)
			for _, it := range r.batch {
				hand[it.key()] = true
			}
			for _, change := range r.outcome.Again {
				hand[change] = true
			}
		case s := <-l.times.done:
			l.settledTimes(s, time.Now())
		case messages := <-l.entries:
			l.accept(ctx, messages, time.Now())
		case <-l.sweep.found:
		case <-l.sweep.compared:
			l.sweep.comparing = false
		case <-l.gaps:
		case <-l.runs:
		case <-l.orders:
		}
	}
	for _, on := range []*lane{l.live, l.bulk} {
		for _, it := range on.waiting {
			hand[it.key()] = true
		}
	}
	for change := range l.times.touched {
		hand[change] = true
	}
	changes := slices.Collect(maps.Keys(hand))
	for {
		err := l.queue.republish(ctx, changes)
		if err == nil {
			l.log.Info().Int("paths", len(changes)).Msg("handed what was in hand over")
			return
		}
		if !pause(ctx, time.Second) {
			l.log.Error().Err(err).Int("paths", len(changes)).Msg("could not hand over what was in hand: run `fastsync sweep --target " + l.cfg.Target + "`")
			return
		}
	}
}

// republish adds changes to the stream as events of their own.
func (q *queue) republish(ctx context.Context, changes []fastsync.Change) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for some := range slices.Chunk(changes, page) {
		pipe := q.redis.Pipeline()
		for _, change := range some {
			e := fastsync.Event{Change: change, Origin: fastsync.Handover, At: time.Now()}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: q.keys.Events(), Values: e.Values()})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("hand %d paths over: %w", len(changes), err)
		}
	}
	return nil
}
