package main

import (
	"context"
	"fmt"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// recovery is how long a restarted process may take to its first delivery.
const recovery = 5 * time.Second

// longer is how long what was killed is away at times: for more than a catch-up goes
// back beyond its beginning in any case.
const longer = 4 * time.Second

// again starts what was killed, and sees how soon a file that was written
// meanwhile is at the target.
func again(ctx context.Context, r *rig) error {
	p, err := r.mark()
	if err != nil {
		return err
	}
	away := r.random(0, 500*time.Millisecond)
	if r.markers%3 == 1 {
		away += longer
	}
	if err := lab.Pause(ctx, away); err != nil {
		return err
	}
	if err := r.startAll(); err != nil {
		return err
	}
	took, err := r.arrives(ctx, p, 3*recovery)
	if err != nil {
		return err
	}
	r.longest("first delivery after the restart", took)
	if took > recovery {
		return fmt.Errorf("the first delivery came %s after the restart, at most %s are promised", took, recovery)
	}
	return nil
}

func crash(which func(r *rig) **lab.Group) func(ctx context.Context, r *rig) error {
	return func(ctx context.Context, r *rig) error {
		if err := lab.Pause(ctx, r.random(0, 1500*time.Millisecond)); err != nil {
			return err
		}
		g := which(r)
		(*g).Crash()
		*g = nil
		if !r.apart {
			r.agent, r.sub = nil, nil
		}
		return nil
	}
}

func apart(r *rig) {
	sure(r)
	r.apart = true
}

func theAgent(r *rig) **lab.Group { return &r.agent }
func theSub(r *rig) **lab.Group   { return &r.sub }

var processFaults = []fault{
	{
		name: "fastsync run killed -9", promised: "nothing lost, first delivery 5 s after the restart", times: 50, fast: true, killed: true,
		set: sure, harm: crash(theAgent), heal: again,
	},
	{
		name: "agent killed -9", promised: "nothing lost, first delivery 5 s after the restart", times: 50, killed: true,
		set: apart, harm: crash(theAgent), heal: again,
	},
	{
		name: "subscriber killed -9", promised: "nothing lost, first delivery 5 s after the restart", times: 50, killed: true,
		set: apart, harm: crash(theSub), heal: again,
	},
	{
		name: "subscriber stopped, another takes over", promised: "it goes on within 60 s; never an older version over a newer, but for what its rsync had read when it was stopped: that is put right within 1 s", killed: true, settles: minute,
		set: apart, harm: takeOver, heal: func(context.Context, *rig) error { return nil },
	},
	{
		name: "subscriber killed -9 beside another", promised: "the other one takes over within 5 s", killed: true, settles: minute,
		set: apart, harm: bequeath, heal: func(context.Context, *rig) error { return nil },
	},
}

// older is for how long a target may show an older version than it did: what an
// rsync had read when it was stopped with its fastsync it puts there when it goes on,
// and that is shipped again.
const older = time.Second

// takeOver stops a subscriber with its rsyncs beside another, for longer than
// its lease, and lets it go on.
func takeOver(ctx context.Context, r *rig) error {
	first := r.sub
	if err := r.startSub(); err != nil {
		return err
	}
	back := r.versions(ctx, "keep-version")
	if err := lab.Pause(ctx, r.random(time.Second, 3*time.Second)); err != nil {
		return err
	}
	r.stopped(first, true)
	p, err := r.mark()
	if err != nil {
		return err
	}
	took, err := r.arrives(ctx, p, time.Minute)
	if err == nil {
		r.longest("taken over", took)
		err = lab.Pause(ctx, 2*time.Second)
	}
	r.stopped(first, false)
	if err != nil {
		return err
	}
	if err := lab.Pause(ctx, 5*time.Second); err != nil {
		return err
	}
	if longest := back(); longest > older {
		return fmt.Errorf("an older file lay over a newer for %s", longest)
	}
	first.End()
	return nil
}

// bequeath kills the one of two subscribers that is at work.
func bequeath(ctx context.Context, r *rig) error {
	first := r.sub
	if err := r.startSub(); err != nil {
		return err
	}
	if err := lab.Pause(ctx, r.random(time.Second, 3*time.Second)); err != nil {
		return err
	}
	first.Crash()
	p, err := r.mark()
	if err != nil {
		return err
	}
	took, err := r.arrives(ctx, p, 5*time.Second)
	r.longest("taken over", took)
	return err
}
