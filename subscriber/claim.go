package subscriber

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// claimed is how long a claim lasts that nobody renews: three heartbeats.
const claimed = 30 * time.Second

// twice is the time between two looks at a holder that seems to be gone: its
// connection may have been cut, and then it is back by the second.
const twice = 500 * time.Millisecond

// ErrServed is of a target that another process serves. [Subscriber.Run] returns
// it when that was taken from this one, which may run again, to stand by.
var ErrServed = errors.New("is served by another process")

// errTaken is of a target's name that another process uses for another pair.
var errTaken = fmt.Errorf("%w: the name stands for something else", ErrServed)

// newHolder names this process among those that may serve a target.
func newHolder() string {
	host, err := os.Hostname()
	if err != nil || strings.ContainsAny(host, " ") {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d:%s", host, os.Getpid(), rand.Text()[:8])
}

// unseen begins the claim of a process that Redis grants no subscription.
const unseen = "unseen:"

// mine is the value of the claim while this process has it.
func (q *queue) mine() string {
	if q.unseen {
		return unseen + q.holder + " " + q.pair
	}
	return q.holder + " " + q.pair
}

// announce keeps a subscription by which others see that this process lives:
// Redis drops it when the process is gone. It comes before the claim, which says
// whether it was granted.
func (q *queue) announce(ctx context.Context) (*redis.PubSub, error) {
	ps := q.redis.Subscribe(ctx)
	err := ps.Subscribe(ctx, q.keys.Alive(q.group, q.holder))
	if err == nil {
		_, err = ps.ReceiveTimeout(ctx, ReadWait)
	}
	q.unseen = err != nil && strings.HasPrefix(err.Error(), "NOPERM")
	if err != nil && !q.unseen {
		_ = ps.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", q.keys.Alive(q.group, q.holder), err)
	}
	return ps, nil
}

// vacant returns the claim that this process may take over, "" for none, or an error
// that wraps ErrServed while another process has it.
func (q *queue) vacant(ctx context.Context) (claim string, err error) {
	claim, err = q.redis.Get(ctx, q.keys.Claim(q.group)).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look who serves target %s: %w", q.group, err)
	}
	if claim == q.mine() || q.gone(ctx, claim) && pause(ctx, twice) && q.gone(ctx, claim) {
		return claim, nil
	}
	return "", q.served(claim)
}

// served says who has the target.
func (q *queue) served(claim string) error {
	holder, pair, _ := strings.Cut(claim, " ")
	if pair != q.pair {
		return fmt.Errorf("target %s %w, %s", q.group, errTaken, pair)
	}
	return fmt.Errorf("target %s %w, %s", q.group, ErrServed, holder)
}

// gone tells whether the process that has a claim has lost its connection. Where
// Redis does not say so, the claim has to end by itself.
func (q *queue) gone(ctx context.Context, claim string) bool {
	holder, _, _ := strings.Cut(claim, " ")
	if strings.HasPrefix(holder, unseen) {
		return false
	}
	channel := q.keys.Alive(q.group, holder)
	var listening atomic.Int64
	ask := func(ctx context.Context, node *redis.Client) error {
		counts, err := node.PubSubNumSub(ctx, channel).Result()
		listening.Add(counts[channel])
		return err
	}
	switch client := q.redis.(type) {
	case *redis.ClusterClient: // each node counts its own
		return client.ForEachShard(ctx, ask) == nil && listening.Load() == 0
	case *redis.Client:
		return ask(ctx, client) == nil && listening.Load() == 0
	}
	return false
}

// holding claims the target, for the first time or anew, unless another process
// has it than the one from which it may be taken; whose it is then is the answer.
// With a state it writes that too, so that nobody writes one who has lost the target.
const holding = `local claim = redis.call("GET", KEYS[1])
if claim and claim ~= ARGV[1] and claim ~= ARGV[2] then return claim end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[3])
if ARGV[5] then redis.call("HSET", KEYS[2], ARGV[4], ARGV[5]) end
return ""`

// hold claims the target where nobody has it, or who had it at the time of from.
func (q *queue) hold(ctx context.Context, from string, state ...any) error {
	now := time.Now()
	args := append([]any{q.mine(), from, claimed.Milliseconds(), q.group}, state...)
	claim, err := q.redis.Eval(ctx, holding, []string{q.keys.Claim(q.group), q.keys.Targets()}, args...).Text()
	if err != nil {
		return fmt.Errorf("claim target %s: %w", q.group, err)
	}
	if claim != "" {
		return q.served(claim)
	}
	q.held.Store(&now)
	return nil
}

// owned is an error if this process was away for so long that its target may be
// another one's, and cannot show that it is not.
func (q *queue) owned(ctx context.Context) error {
	if !q.lapsed() {
		return nil
	}
	return q.hold(ctx, "")
}

// lapsed tells whether this process was away for so long that another one may have
// its target.
func (q *queue) lapsed() bool {
	held := q.held.Load()
	return held != nil && time.Since(*held) > claimed
}

// release gives the target back at the end, so that the next start need not wait.
func (q *queue) release(ctx context.Context) {
	key := q.keys.Claim(q.group)
	if claim, err := q.redis.Get(ctx, key).Result(); err == nil && claim == q.mine() {
		_ = q.redis.Del(ctx, key).Err() // else it expires
	}
}
