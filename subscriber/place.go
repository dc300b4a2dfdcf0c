package subscriber

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// haul is what one read gave.
type haul struct {
	messages []redis.XMessage
	// before is the last event that the group had given out before the read.
	before string
	// pending counts what the group had given out and nobody had acknowledged then.
	pending int64
}

// told takes how many events a trim took before this group read them, and returns
// once the state in Redis says so; false if that is not to be. Until then the
// group's count stays as it is, so that the next start finds the same.
type told func(lost int64) bool

// read takes the next page: of this consumer's history after an id, or with
// ">" of what is new. The group's place is asked for in the same round trip, and
// before the read, which moves it past a hole as if nothing had been there. What
// is trimmed is asked for after the read, so that a trim is never too late to be seen.
func (q *queue) read(ctx context.Context, after string, tell told) (haul, error) {
	q.looking.Lock()
	defer q.looking.Unlock()
	pipe := q.reads.Pipeline()
	groups := pipe.XInfoGroups(ctx, q.keys.Events())
	streams := pipe.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: q.group, Consumer: consumer, Count: page, Block: fastsync.BeatWithin(q.block),
		Streams: []string{q.keys.Events(), after},
	})
	stream := pipe.XInfoStream(ctx, q.keys.Events())
	q.reading.Store(true)
	_, _ = pipe.Exec(ctx) // each command has its own error
	q.reading.Store(false)
	var got haul
	switch err := streams.Err(); {
	case errors.Is(err, redis.Nil):
	case err != nil && strings.HasPrefix(err.Error(), "UNBLOCKED"):
		return haul{}, nil // the stream is gone, or a failover or an operator woke us: the next read tells
	case err != nil && strings.HasPrefix(err.Error(), "NOGROUP"):
		return haul{}, errNoGroup
	case err != nil:
		return haul{}, fmt.Errorf("read events as %s: %w", q.group, err)
	case len(streams.Val()) > 0:
		got.messages = streams.Val()[0].Messages
	}
	fresh := got.messages
	if after != ">" {
		fresh = nil // it was counted when it was new
	}
	place, _, _ := q.account(ctx, groups, stream, fresh, tell) // better reported twice than never
	got.before, got.pending = place.LastDeliveredID, place.Pending
	return got, nil
}

// overtaken counts the events that a trim took before this group read them,
// for a time in which nothing is read.
func (q *queue) overtaken(ctx context.Context, tell told) (int64, error) {
	q.looking.Lock()
	defer q.looking.Unlock()
	pipe := q.redis.Pipeline()
	groups := pipe.XInfoGroups(ctx, q.keys.Events())
	stream := pipe.XInfoStream(ctx, q.keys.Events())
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("look at the events stream: %w", err)
	}
	_, lost, err := q.account(ctx, groups, stream, nil, tell)
	return lost, err
}

// account compares what is trimmed now with what the group had read before it
// read fresh, tells it, and sets the group's own count right, so that a loss is
// reported once.
func (q *queue) account(
	ctx context.Context, groups *redis.XInfoGroupsCmd, stream *redis.XInfoStreamCmd, fresh []redis.XMessage, tell told,
) (place redis.XInfoGroup, lost int64, err error) {
	for _, g := range groups.Val() {
		if g.Name == q.group {
			place = g
		}
	}
	if place.Name == "" || stream.Err() != nil {
		return place, 0, nil // gone meanwhile: the next read says so
	}
	lost = trimmedOf(stream.Val()) - place.EntriesRead
	last := place.LastDeliveredID
	for _, m := range fresh {
		last = m.ID
		if stream.Val().Length == 0 || idLess(m.ID, stream.Val().FirstEntry.ID) {
			lost-- // trimmed after it was read
		}
	}
	if lost <= 0 {
		return place, 0, nil
	}
	if first := stream.Val().FirstEntry.ID; stream.Val().Length > 0 && !idLess(place.LastDeliveredID, first) {
		// Nothing after what was read is gone, so it is the group's count that is
		// wrong: Redis loads it from its AOF as of the last SETID.
		lost = 0
	}
	if lost > 0 && !tell(lost) {
		return place, lost, nil
	}
	err = q.redis.Do(ctx, "XGROUP", "SETID", q.keys.Events(), q.group, last,
		"ENTRIESREAD", max(place.EntriesRead+int64(len(fresh))+lost, trimmedOf(stream.Val()))).Err()
	return place, lost, err
}
