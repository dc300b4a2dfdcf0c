package rsyncer

import (
	"context"
	"sync"
	"time"

	"github.com/fastsync/fastsync"
)

// Sync ships changes over a lane. An error means that a run failed as a whole and wraps
// a [fastsync.RunError]; the outcome then holds only what was settled before.
func (r *Rsyncer) Sync(ctx context.Context, lane fastsync.Lane, changes []fastsync.Change) (fastsync.Outcome, error) {
	s := session{lane: lane, begun: time.Now(), made: map[string]bool{}}
	if len(changes) == 0 {
		return fastsync.Outcome{Untried: true}, nil
	}
	defer r.use(ctx, lane)()
	if !r.pull {
		s.near = r.neighbours.enter(lane == fastsync.Live)
		defer s.near.leave()
	}
	var seen fastsync.Outcome
	err := r.shipInTurn(ctx, &s, &sorter{
		r: r, lane: lane, remove: r.cfg.Delete, near: s.near, out: &seen, begun: s.begun, most: maxJobs,
	}, changes)
	s.outcome.Failed = append(s.outcome.Failed, seen.Failed...)
	s.outcome.Again = append(s.outcome.Again, seen.Again...)
	s.outcome.Waits = append(s.outcome.Waits, seen.Waits...)
	s.outcome.Bulk = append(s.outcome.Bulk, seen.Bulk...)
	s.outcome.Kept += seen.Kept
	s.outcome.Late = r.late()
	s.outcome.Untried = err == nil && !s.reached
	return s.outcome, err
}

// shipInTurn looks at some of the changes while it ships those before them.
func (r *Rsyncer) shipInTurn(ctx context.Context, s *session, to *sorter, changes []fastsync.Change) error {
	left, err := to.sort(changes)
	for ready := to.ready(); err == nil; ready = to.ready() {
		var ahead sync.WaitGroup
		more, looked := len(left) > 0, error(nil)
		held := to.near.begun()
		if more {
			ahead.Go(func() { left, looked = to.sort(left) })
		}
		err = r.shipAll(ctx, s, ready[:])
		to.near.ended(held)
		ahead.Wait()
		if err == nil {
			err = looked
		}
		if !more {
			break
		}
	}
	if fastsync.ClassOf(err) == fastsync.Full {
		r.makeRoom(ctx, s, to, left)
	}
	if err != nil {
		return err
	}
	// Last, so that a file that moved is never at neither place.
	return r.shipAll(ctx, s, to.to[:])
}

// ready takes out what was found to ship; what is to be deleted stays.
func (s *sorter) ready() (found [2 * int(deletes)]*group) {
	copy(found[:], s.to[:])
	clear(s.to[:len(found)])
	return found
}

func (r *Rsyncer) shipAll(ctx context.Context, s *session, all []*group) error {
	for _, g := range all {
		if err := r.ship(ctx, s, g); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom deletes what is gone from a source whose files have no room at the
// target: they may need just that.
func (r *Rsyncer) makeRoom(ctx context.Context, s *session, to *sorter, left []fastsync.Change) {
	for len(left) > 0 { // what ships of it has no room
		var err error
		if left, err = to.sort(left); err != nil {
			break
		}
		to.ready()
	}
	if err := r.shipAll(ctx, s, to.to[:]); err != nil {
		r.cfg.Log.Debug().Err(err).Msg("nothing could be deleted to make room")
	}
}
