package subscriber

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// consumer is the name of every process that serves a target: whoever comes
// next, on whatever host, finds what the last one left unfinished.
const consumer = "subscriber"

// maxDeliveries caps the deliveries stream.
const maxDeliveries = 100_000

// page is how many entries one read takes.
const page = 1000

var errNoGroup = errors.New("the consumer group is gone")

// queue is the target's side of Redis: its group, failed paths and state.
type queue struct {
	redis redis.UniversalClient
	reads redis.UniversalClient // for reads that wait for block
	block time.Duration
	// patience is how long events may be pending that this process does not hold.
	patience time.Duration
	keys     fastsync.Keys
	group    string
	pair     string // see Config
	holder   string // this process, see newHolder
	unseen   bool   // Redis does not let others see whether it lives
	// held is when the target was last seen to be this process's; nil for never.
	held atomic.Pointer[time.Time]

	// What guard asks, in another goroutine than read and the loop.
	reading atomic.Bool // a read waits in Redis, and not for the loop
	acked   atomic.Bool // something was acknowledged since the last look

	// looking is held from a look at the group's count to its correction, which
	// would else take back what a read beside it has taken.
	looking sync.Mutex
}

// failedPath is the value of one path in the failed hash.
type failedPath struct {
	Why   string         `json:"why"`
	Since time.Time      `json:"since"`
	Tries int            `json:"tries"`
	Scope fastsync.Scope `json:"scope"`
	// Held says that it is a deletion that waits for an operator.
	Held bool `json:"held,omitempty"`
	// Quarantined says that it has failed so often that it is tried once an hour.
	Quarantined bool `json:"quarantined,omitempty"`
}

// open reads the state and failed paths of the last process.
func (q *queue) open(ctx context.Context, retry map[fastsync.Change]failedPath) (State, error) {
	var state State
	text, err := q.redis.HGet(ctx, q.keys.Targets(), q.group).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return State{}, fmt.Errorf("read the state of target %s: %w", q.group, err)
	}
	if err == nil {
		_ = json.Unmarshal([]byte(text), &state) // a state of another version starts anew, with a sweep
	}
	failed, err := q.redis.HGetAll(ctx, q.keys.Failed(q.group)).Result()
	if err != nil {
		return State{}, fmt.Errorf("read the failed paths of target %s: %w", q.group, err)
	}
	for p, text := range failed {
		f := failedPath{Scope: fastsync.Entry}
		_ = json.Unmarshal([]byte(text), &f)
		if fastsync.CheckPath(p) == nil {
			retry[fastsync.Change{Path: p, Scope: f.Scope}] = f
		}
	}
	return state, nil
}

// grouped tells whether the group is there.
func (q *queue) grouped(ctx context.Context) (bool, error) {
	groups, err := q.redis.XInfoGroups(ctx, q.keys.Events()).Result()
	if err != nil && err.Error() != noKey {
		return false, fmt.Errorf("look for consumer group %s: %w", q.group, err)
	}
	return slices.ContainsFunc(groups, func(g redis.XInfoGroup) bool { return g.Name == q.group }), nil
}

// noKey is what Redis says of a stream that is not there.
const noKey = "ERR no such key"

// makeGroup starts at 0, never at the end: what is in the stream is for
// everybody. What was trimmed before counts as read: it was never for this group.
func (q *queue) makeGroup(ctx context.Context) error {
	args := []any{"XGROUP", "CREATE", q.keys.Events(), q.group, "0", "MKSTREAM"}
	stream, err := q.redis.XInfoStream(ctx, q.keys.Events()).Result()
	if trimmed := trimmedOf(stream); err == nil && trimmed > 0 {
		args = append(args, "ENTRIESREAD", trimmed)
	}
	err = q.redis.Do(ctx, args...).Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return fmt.Errorf("make consumer group %s: %w", q.group, err)
	}
	return nil
}

// trimmedOf counts the events that are gone from the stream. Before Redis 7,
// which does not count, it is never positive.
func trimmedOf(stream *redis.XInfoStream) int64 {
	if stream == nil {
		return 0
	}
	return stream.EntriesAdded - stream.Length
}

// delivery is one entry for the deliveries stream.
type delivery struct {
	event, path, ref, why string
	took                  time.Duration
}

// ack writes deliveries, then acknowledges: a crash in between repeats work
// and loses none.
func (q *queue) ack(ctx context.Context, ids []string, deliveries []delivery) error {
	if err := q.owned(ctx); err != nil {
		return err
	}
	if len(ids) > 0 {
		q.acked.Store(true)
	}
	for len(ids) > 0 || len(deliveries) > 0 {
		pipe := q.redis.Pipeline()
		n := min(len(deliveries), page)
		for _, d := range deliveries[:n] {
			pipe.XAdd(ctx, q.deliveryArgs(d))
		}
		m := min(len(ids), page)
		if m > 0 {
			pipe.XAck(ctx, q.keys.Events(), q.group, ids[:m]...)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("acknowledge %d events of %s: %w", len(ids), q.group, err)
		}
		deliveries, ids = deliveries[n:], ids[m:]
	}
	return nil
}

func (q *queue) deliveryArgs(d delivery) *redis.XAddArgs {
	ok := "1"
	if d.why != "" {
		ok = "0"
	}
	return &redis.XAddArgs{
		Stream: q.keys.Deliveries(), MaxLen: maxDeliveries, Approx: true,
		Values: []any{
			"event", d.event, "path", d.path, "target", q.group, "ref", d.ref,
			"ok", ok, "took", strconv.FormatInt(d.took.Microseconds(), 10), "error", d.why,
		},
	}
}

// worked tells whether events wait for the loop to take them, or any were
// acknowledged since the last look.
func (q *queue) worked() bool {
	acked := q.acked.Swap(false)
	return !q.reading.Load() || acked
}

func (q *queue) fail(ctx context.Context, failed map[string]failedPath) error {
	if err := q.owned(ctx); err != nil {
		return err
	}
	if len(failed) == 0 {
		return nil
	}
	values := make([]any, 0, 2*len(failed))
	for p, f := range failed {
		text, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode failed path %q: %w", p, err)
		}
		values = append(values, p, string(text))
	}
	if err := q.redis.HSet(ctx, q.keys.Failed(q.group), values...).Err(); err != nil {
		return fmt.Errorf("record failed paths of %s: %w", q.group, err)
	}
	return nil
}

func (q *queue) healed(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if err := q.redis.HDel(ctx, q.keys.Failed(q.group), paths...).Err(); err != nil {
		return fmt.Errorf("clear failed paths of %s: %w", q.group, err)
	}
	return nil
}

// save writes the state and renews the claim, unless another process has that.
func (q *queue) save(ctx context.Context, s State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state of target %s: %w", q.group, err)
	}
	return q.hold(ctx, "", string(text))
}

// trim drops what every group has acknowledged.
func (q *queue) trim(ctx context.Context) error {
	groups, err := q.redis.XInfoGroups(ctx, q.keys.Events()).Result()
	if err != nil {
		return fmt.Errorf("look at the consumer groups: %w", err)
	}
	safe := ""
	for _, g := range groups {
		id := g.LastDeliveredID
		if g.Pending > 0 {
			pending, err := q.redis.XPending(ctx, q.keys.Events(), g.Name).Result()
			if err != nil {
				return fmt.Errorf("look at the pending events of %s: %w", g.Name, err)
			}
			if pending.Count > 0 {
				id = pending.Lower
			}
		}
		if safe == "" || idLess(id, safe) {
			safe = id
		}
	}
	if safe == "" || safe == "0-0" {
		return nil
	}
	return q.redis.XTrimMinID(ctx, q.keys.Events(), safe).Err()
}

func idLess(a, b string) bool {
	split := func(id string) (ms, seq uint64) {
		left, right, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(left, 10, 64)
		seq, _ = strconv.ParseUint(right, 10, 64)
		return ms, seq
	}
	am, as := split(a)
	bm, bs := split(b)
	return am < bm || am == bm && as < bs
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
