package subscriber

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fastsync/fastsync"
)

// maxOrders bounds the operators who wait for a sweep.
const maxOrders = 8

// look is no operator's order: it has the claim looked at.
const look = "look"

// order is an operator's wish for a sweep.
type order struct {
	id     string // by which the operator knows the answer
	dryRun bool
}

// answer keeps how an operator's sweep ended, since the next one may begin
// before the state is written.
func (l *loop) answer(now time.Time) {
	st := &l.state
	st.Answers = slices.DeleteFunc(st.Answers, func(s Sweep) bool { return now.Sub(s.Started.Add(s.Took)) > time.Minute })
	if st.Sweep.ID == "" {
		return
	}
	st.Sweep.Took = now.Sub(st.Sweep.Started)
	if st.Answers = append(st.Answers, st.Sweep); len(st.Answers) > maxOrders {
		st.Answers = st.Answers[1:]
	}
}

// obey carries an operator's order out.
func (l *loop) obey(said string, now time.Time) {
	verb, id, _ := strings.Cut(said, " ")
	l.dirty = true
	switch verb {
	case "sweep", "dry-run":
		if len(l.sweep.orders) == maxOrders {
			l.state.Answers = append(l.state.Answers, Sweep{ID: id, Started: now, Err: fmt.Sprintf("%d sweeps are ordered and wait already; try again when one has ended", maxOrders)})
			return
		}
		l.sweep.orders = append(l.sweep.orders, order{id, verb == "dry-run"})
	case "release":
		for change := range l.held {
			delete(l.held, change)
			l.log.Warn().Str("path", change.Path).Msg("an operator let a held deletion through")
			l.live.add(&item{change: fastsync.Change{Path: change.Path, Scope: change.Scope, Released: true}, since: now, due: now})
		}
	}
}

// listen takes an operator's orders: "sweep ID", "dry-run ID", "release". It goes on
// with the subscription that shows that this process lives.
func (s *Subscriber) listen(ctx context.Context, ps *redis.PubSub, orders chan<- string) error {
	for {
		s.hear(ctx, ps, orders)
		_ = ps.Close()
		if !pause(ctx, 200*time.Millisecond) {
			return nil
		}
		ps = s.cfg.Redis.Subscribe(ctx)
		send(ctx, orders, look) // for as long as that took, this process may have been taken for dead
	}
}

// hear ends with the subscription. One that could not be asked for must not be used:
// go-redis connects anew at once, and asks for those alone that it knew before.
func (s *Subscriber) hear(ctx context.Context, ps *redis.PubSub, orders chan<- string) {
	if !s.queue.unseen && ps.Subscribe(ctx, s.cfg.Keys.Alive(s.cfg.Target, s.queue.holder)) != nil {
		return
	}
	if ps.Subscribe(ctx, s.cfg.Keys.Control(s.cfg.Target)) != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = ps.Close() })() // else it waits on
	for silent := 0; silent < 2; {
		m, err := ps.ReceiveTimeout(ctx, fastsync.BeatWithin(ReadWait))
		if msg, ok := m.(*redis.Message); ok {
			send(ctx, orders, msg.Payload)
		}
		if silent++; err == nil {
			silent = 0
		} else if !isTimeout(err) || ps.Ping(ctx) != nil {
			return
		}
	}
}
