package subscriber

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
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
	ps := q.redis.Subscribe(ctx, q.keys.Alive(q.group, q.holder))
	_, err := ps.ReceiveTimeout(ctx, ReadWait)
	q.unseen = err != nil && strings.HasPrefix(err.Error(), "NOPERM")
	if err != nil && !q.unseen {
		_ = ps.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", q.keys.Alive(q.group, q.holder), err)
	}
	return ps, nil
}

// vacant waits for nothing: it returns the claim that this process may take over,
// "" for none, or an error that wraps ErrServed while another process has it.
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
	var counts map[string]int64
	var err error
	if cluster, ok := q.redis.(*redis.ClusterClient); ok { // each node counts its own
		var node *redis.Client
		if node, err = cluster.MasterForKey(ctx, channel); err == nil {
			counts, err = node.PubSubNumSub(ctx, channel).Result()
		}
	} else {
		counts, err = q.redis.PubSubNumSub(ctx, channel).Result()
	}
	return err == nil && counts[channel] == 0
}

// seizing takes a claim over only from whom it was seen to be.
const seizing = `if redis.call("GET", KEYS[1]) == ARGV[1] then
	return redis.call("SET", KEYS[1], ARGV[2], "PX", ARGV[3])
end`

// seize takes the claim from a process that is gone, or where there is none.
func (q *queue) seize(ctx context.Context, from string) error {
	key, got := q.keys.Claim(q.group), false
	var err error
	if from == "" {
		got, err = q.redis.SetNX(ctx, key, q.mine(), claimed).Result()
	} else if err = q.redis.Eval(ctx, seizing, []string{key}, from, q.mine(), claimed.Milliseconds()).Err(); err == nil {
		got = true
	} else if errors.Is(err, redis.Nil) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("claim target %s: %w", q.group, err)
	}
	if !got {
		return fmt.Errorf("target %s %w, which was faster", q.group, ErrServed)
	}
	q.renewed = time.Now()
	return nil
}

// renew sees that the claim is still this process's, and takes it again where it
// has ended or Redis has lost it.
func (q *queue) renew(ctx context.Context, claim string) error {
	switch claim {
	case q.mine():
		q.renewed = time.Now()
		return nil
	case "":
		return q.seize(ctx, "")
	}
	return q.served(claim)
}

// release gives the target back at the end, so that the next start need not wait.
func (q *queue) release(ctx context.Context) {
	key := q.keys.Claim(q.group)
	if claim, err := q.redis.Get(ctx, key).Result(); err == nil && claim == q.mine() {
		_ = q.redis.Del(ctx, key).Err() // else it expires
	}
}
