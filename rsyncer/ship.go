package rsyncer

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	maxEntries = 5000 // a list is read byte by byte, 70 µs a name
	maxJobs    = 2500 // looked at while as many ship: the bound on a batch's memory, whatever it covers
	maxRemoved = 1 << 20
)

// session is what the runs of one Sync share.
type session struct {
	lane    fastsync.Lane
	near    *neighbour
	begun   time.Time // before its paths were looked at
	outcome fastsync.Outcome
	reached bool // the other side has answered a run
	deleted int  // paths deleted so far, against Config.MaxDelete
	// undeleted says that the last run left all of its deletions out.
	undeleted bool
	made      map[string]bool // directories that are new at the target: nothing of theirs is gone
}

// ship runs a group's jobs, so many at a time.
func (r *Rsyncer) ship(ctx context.Context, s *session, g *group) error {
	if g == nil {
		return nil
	}
	if g.kind == listingPrunes || g.kind == treePrunes {
		if g = g.except(s.made); len(g.jobs) == 0 {
			return nil
		}
	}
	for _, part := range g.parts() {
		err := r.shipPart(ctx, s, g, part)
		if fastsync.ClassOf(err) == fastsync.Full {
			err = r.shipOthers(ctx, s, g, part, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shipOthers tries again without the path for which there was no room: a video
// that does not fit must not keep photos away. If they do not fit either, it is
// the target that is full.
func (r *Rsyncer) shipOthers(ctx context.Context, s *session, g *group, jobs []job, full error) error {
	_ = r.Tidy(ctx, nil)
	var others, big []job
	for _, j := range jobs {
		if r.names(full.Error(), j.path, g.kind) {
			big = append(big, j)
		} else {
			others = append(others, j)
		}
	}
	if len(big) == 0 || len(others) == 0 {
		return full
	}
	if err := r.shipPart(ctx, s, g, others); err != nil {
		return err
	}
	for _, j := range big {
		s.fail(j, full.Error())
	}
	return nil
}

// fail says of a job's changes why they are not at the target.
func (s *session) fail(j job, reason string) {
	for _, c := range j.changes {
		s.outcome.Failed = append(s.outcome.Failed, fastsync.Failure{Change: c, Reason: reason})
	}
}

func (r *Rsyncer) shipPart(ctx context.Context, s *session, g *group, jobs []job) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	if r.pull {
		var err error
		if jobs, err = r.shipLinks(ctx, s, g, jobs, beside(g, jobs)); err != nil || len(jobs) == 0 {
			return err
		}
	}
	res := r.carry(ctx, s, g, jobs)
	if g.kind == entries {
		maps.Copy(s.made, g.made)
	}
	if errors.Is(res.err, errWanted) && ctx.Err() == nil {
		s.outcome.Cut = true
		for _, j := range jobs {
			s.outcome.Again = append(s.outcome.Again, j.changes...)
		}
		return nil
	}
	if r.pull && (answered(res) || crossed(res)) {
		rest, err := r.shipLinks(ctx, s, g, jobs, taken(g, jobs, res))
		switch {
		case err != nil || len(rest) == 0:
			return err
		case crossed(res) && len(rest) < len(jobs):
			return r.shipPart(ctx, s, g, rest)
		}
		jobs = rest
	}
	if err := r.judge(ctx, res); err != nil {
		return err
	}
	s.reached = true
	s.outcome.Cut = s.outcome.Cut || res.code != exitOK
	s.undeleted = g.kind.deletes() && (undeleted(res.notes) || r.cfg.Delete && res.cut) // it may have said so
	open := map[string]verdict{}
	if res.code == exitPartial || res.code == exitMaxDeletes || held(res.notes) {
		var err error
		if open, err = r.verify(ctx, s, g, jobs, res); err != nil {
			return err
		}
	}
	s.postpone(res, jobs, open)
	if g.kind == listings || g.kind == trees {
		s.outcome.Again = append(s.outcome.Again, r.touched(g, jobs, s.begun)...)
	}
	s.outcome.Again = append(s.outcome.Again, r.beside(g, jobs, s.begun)...)
	sure, doubted := s.doubt(g, jobs, open)
	if err := r.settle(s, g.kind, sure, open); err != nil || len(doubted) == 0 {
		return err
	}
	compared := &group{kind: entries, read: true, at: map[string]int{}}
	for _, j := range doubted {
		compared.add(j)
	}
	return r.ship(ctx, s, compared)
}

// ready checks that the source is there: an empty one would delete everything.
func (r *Rsyncer) ready(ctx context.Context) error {
	if !r.pull {
		root, err := r.openRoot()
		if err != nil {
			return err
		}
		return root.Close()
	}
	if !r.cfg.Delete {
		return nil
	}
	args := append(r.common(fastsync.Bulk), "--list-only", "-d", "--", r.source)
	n := 0
	res := r.cold(ctx, call{fastsync.Bulk, args, nil, func(item) {}, nil})
	if err := r.judge(ctx, res); err != nil {
		return err
	}
	for _, line := range res.said {
		if !strings.HasSuffix(line, " .") {
			n++
		}
	}
	if res.code != exitOK || n == 0 {
		return r.fault(fastsync.Transient, "the source "+r.source+" is empty or unreadable, as an unmounted disk is: mount it there", nil)
	}
	return nil
}
