package subscriber

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// claimed is how long a claim lasts that nobody renews: three heartbeats.
const claimed = 30 * time.Second

// errTaken is of a target's name that another process uses for another pair.
var errTaken = errors.New("the name stands for something else")

// claim takes the target's name for the pair. Several processes may have it for
// the same one.
func (q *queue) claim(ctx context.Context) error {
	if q.pair == "" {
		return nil
	}
	key := q.keys.Claim(q.group)
	for {
		got, err := q.redis.SetNX(ctx, key, q.pair, claimed).Result()
		if err != nil {
			return fmt.Errorf("claim the name of target %s: %w", q.group, err)
		}
		if got {
			return nil
		}
		switch other, err := q.redis.Get(ctx, key).Result(); {
		case errors.Is(err, redis.Nil):
			continue // it has just ended
		case err != nil:
			return fmt.Errorf("claim the name of target %s: %w", q.group, err)
		case other != q.pair:
			return fmt.Errorf("target %s is served by another process: %w, %s", q.group, errTaken, other)
		}
		return q.redis.Expire(ctx, key, claimed).Err()
	}
}

// release gives the name back at the end, so that the next start need not wait
// if it is for another pair. Whoever has it for the same one claims it again.
func (q *queue) release(ctx context.Context) {
	if q.pair == "" {
		return
	}
	key := q.keys.Claim(q.group)
	if other, err := q.redis.Get(ctx, key).Result(); err == nil && other == q.pair {
		_ = q.redis.Del(ctx, key).Err() // else it expires
	}
}
