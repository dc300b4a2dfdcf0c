package publisher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/fastsync/fastsync"
)

// silence is how long the connection may at least say nothing before it is pinged,
// at the next beat; two silent periods in a row mean that it is dead. go-redis itself never checks
// the PONG, so a black hole would go unnoticed for a quarter of an hour.
const silence = 5 * time.Second

// margin is taken off the time at which a gap began: a file is written some time
// before it is published, maybe by the clock of another host.
const margin = 2 * time.Second

// RelayConfig is what a Relay needs.
type RelayConfig struct {
	Redis   redis.UniversalClient
	Channel string
	// Source is the root directory, absolute and without symbolic links.
	Source    string
	Publisher interface {
		Publish(ctx context.Context, events ...fastsync.Event) error
	}
	// Gap is called for every subscription, the first too, and for what had to be
	// dropped: what was published since then may have been heard by nobody, so the
	// caller has to catch up from there.
	Gap func(since time.Time)
	Log zerolog.Logger
}

// Relay turns the PUBLISHes of a CMS into events.
type Relay struct {
	cfg RelayConfig
	// quiet is how long the connection may go without an answer; tests make it small.
	quiet time.Duration
	// Read by status while Run counts.
	relayed, refused atomic.Int64 // paths
}

// NewRelay returns a Relay; it does no I/O.
func NewRelay(cfg RelayConfig) *Relay { return &Relay{cfg: cfg, quiet: silence + fastsync.Beat} }

// Relayed counts the paths of messages that became events since the start.
func (r *Relay) Relayed() int64 { return r.relayed.Load() }

// Refused counts the paths, and the messages that named none, that were
// refused since the start.
func (r *Relay) Refused() int64 { return r.refused.Load() }

// Run relays until ctx ends, subscribing again whenever the connection fails.
func (r *Relay) Run(ctx context.Context) error {
	inbox := make(chan []fastsync.Event)
	done := make(chan struct{})
	box := &held{good: time.Now()} // what was published earlier is the caller's
	defer r.lastWords(ctx, box)
	go func() { defer close(done); r.forward(ctx, inbox, box) }()
	defer func() { close(inbox); <-done }()
	subscribed, last := false, ""
	for ctx.Err() == nil {
		was := subscribed
		err := r.listen(ctx, inbox, box, &subscribed)
		if ctx.Err() != nil {
			return nil
		}
		if subscribed && !was {
			last = ""
		}
		if err.Error() != last {
			last = err.Error()
			r.cfg.Log.Warn().Err(err).Str("channel", r.cfg.Channel).Msg("the relay hears nothing; subscribing again until redis lets it")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// held are events that the publisher has not taken yet. The receiving loop
// alone uses it; what forward could not hand over is back in it at the end.
type held struct {
	events, returned []fastsync.Event
	// All that was published before good was heard; since is what that was when the
	// oldest of events came.
	good, since time.Time
}

// said is what the connection said, and with it the present good.
type said struct {
	what any
	good time.Time
}

// lastWait is how long events may take to reach Redis after the end.
const lastWait = 2 * time.Second

// lastWords publishes what was received and not yet handed over when ctx ended.
func (r *Relay) lastWords(ctx context.Context, box *held) {
	rest := slices.Concat(box.returned, box.events)
	if len(rest) == 0 {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWait)
	defer cancel()
	if err := r.cfg.Publisher.Publish(last, rest...); err != nil {
		refs := map[string]bool{}
		for _, e := range rest {
			refs[e.Ref] = true
		}
		delete(refs, "")
		r.cfg.Log.Error().Err(err).Int("events", len(rest)).Int("refs", len(refs)).
			Msg("stopped before redis took the last published paths; the next start finds them on disk, their refs are lost")
	}
}

// maxHeld bounds what the relay keeps while the publisher is busy: beyond it,
// events are dropped and a gap is reported, so that a catch-up finds them.
const maxHeld = 100_000

// forward publishes beside the receiving loop, which must never wait: Redis
// cuts a slow Pub/Sub client off and tells the sender nothing.
func (r *Relay) forward(ctx context.Context, inbox <-chan []fastsync.Event, box *held) {
	for events := range inbox {
		if err := r.cfg.Publisher.Publish(ctx, events...); err != nil {
			box.returned = append(box.returned, events...)
		}
	}
}

func (r *Relay) listen(ctx context.Context, inbox chan<- []fastsync.Event, box *held, subscribed *bool) error {
	ps := r.cfg.Redis.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	asked := time.Now()
	// Where this fails go-redis connects anew at once, and asks for those channels
	// alone that it knew before: it would hear nothing, and find nothing amiss.
	if err := ps.Subscribe(ctx, r.cfg.Channel); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	received := make(chan said)
	failed := make(chan error, 1)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	go r.receive(stop, hearing{ps, asked}, received, failed)
	defer func() { cancel(); _ = ps.Close(); <-failed }()
	for {
		var out chan<- []fastsync.Event
		if len(box.events) > 0 {
			out = inbox
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			failed <- err
			return err
		case out <- box.events:
			box.events = nil
		case got := <-received:
			r.take(got, box, subscribed)
		}
	}
}

func (r *Relay) take(got said, box *held, subscribed *bool) {
	switch m := got.what.(type) {
	case *redis.Subscription:
		if *subscribed {
			r.cfg.Log.Warn().Str("channel", r.cfg.Channel).Msg("the relay was away; what was published meanwhile is looked for")
		}
		*subscribed = true
		r.cfg.Gap(box.good.Add(-margin))
	case *redis.Message:
		if len(box.events) == 0 {
			box.since = box.good
		}
		box.events = append(box.events, r.read(m.Payload)...)
		if len(box.events) > maxHeld {
			r.cfg.Log.Warn().Int("events", len(box.events)).Msg("too many relayed events wait for redis; catching up instead")
			box.events = nil
			r.cfg.Gap(box.since.Add(-margin))
		}
	}
	box.good = got.good
}

// hearing is a connection that was asked for something then, and has not answered;
// zero for nothing.
type hearing struct {
	*redis.PubSub
	asked time.Time
}

// receive reads in its own goroutine and ends with one value in failed.
//
// Only an answer tells what was heard: all that was published before it was asked
// for. A message may have waited in the kernel while Redis gave this connection up.
func (r *Relay) receive(ctx context.Context, from hearing, received chan<- said, failed chan<- error) {
	silent, good := 0, time.Time{}
	for {
		got, err := from.ReceiveTimeout(ctx, fastsync.BeatWithin(r.quiet))
		var timeout net.Error
		switch {
		case err == nil:
			silent = 0
			if _, message := got.(*redis.Message); !message && !from.asked.IsZero() {
				good, from.asked = from.asked, time.Time{}
			}
			select {
			case received <- said{got, good}:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		case errors.As(err, &timeout) && timeout.Timeout():
			if silent++; silent >= 2 {
				failed <- fmt.Errorf("no answer to a ping for %s", silence)
				return
			}
		default:
			failed <- fmt.Errorf("receive: %w", err)
			return
		}
		if silent == 0 && (!from.asked.IsZero() || time.Since(good) < r.quiet) {
			continue
		}
		if from.asked.IsZero() { // else the first answer is to the first question
			from.asked = time.Now()
		}
		if err := from.Ping(ctx); err != nil {
			failed <- fmt.Errorf("ping: %w", err)
			return
		}
	}
}

// read makes events of a message. What is refused of it costs one log line, in
// which the logger escapes what the message said.
func (r *Relay) read(text string) []fastsync.Event {
	m, err := ParseMessage(r.cfg.Source, text)
	faults := m.Refused
	if err != nil {
		faults = append(faults, err)
	}
	events := make([]fastsync.Event, 0, len(m.Paths))
	now := time.Now()
	for _, p := range m.Paths {
		p, scope, err := Look(r.cfg.Source, p, m.Scope)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		events = append(events, fastsync.Event{
			Change: fastsync.Change{Path: p, Scope: scope}, Origin: fastsync.CMS, Ref: m.Ref, At: now,
		})
	}
	r.relayed.Add(int64(len(events)))
	if len(faults) > 0 {
		r.refused.Add(int64(len(faults)))
		what := "refused a published message"
		if len(events) > 0 {
			what = "refused a part of a published message"
		}
		r.cfg.Log.Warn().Err(few(faults)).Str("said", cut(text)).Msg(what) // a field "message" would be the logger's own
	}
	return events
}
