package rsyncer

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
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

// held tells whether the brake on deletions stopped some: another fault may
// hide its exit code.
func held(notes []string) bool {
	for _, n := range notes {
		if strings.Contains(n, "--max-delete limit") {
			return true
		}
	}
	return false
}

// verdict is why a path is not at the target.
type verdict struct {
	held   bool
	busy   bool // its writer is not done
	reason string
	own    bool // the reason names the path; else it is the run's
}

// verify asks rsync once more, without writing, what of the list is not in
// sync: lines of the first run are no proof.
func (r *Rsyncer) verify(ctx context.Context, s *session, g *group, jobs []job, first result) (map[string]verdict, error) {
	braked := first.code == exitMaxDeletes || held(first.notes)
	open := map[string]verdict{}
	args := r.operands(append(r.args(s.lane, spec{g.kind, r.cfg.Delete, -1}), append(g.more(), "-n")...))
	fresh := newDirs{}
	res := r.cold(ctx, call{s.lane, args, list(g.kind, jobs), func(it item) {
		if fresh.covers(it) || len(open) >= maxRemoved {
			return
		}
		if it.gone && braked {
			open[it.path] = verdict{held: true}
		} else {
			open[it.path] = r.verdictOn(it.path, g.kind, first.notes)
		}
	}, nil})
	if err := r.judge(ctx, res); err != nil {
		return nil, err
	}
	if res.cut && len(jobs) > 1 {
		return r.verifyHalves(ctx, s, g, jobs, first)
	}
	// What rsync cannot make way for or cannot read is only in its messages.
	for _, note := range res.notes {
		if summary(note) || vanished(note) {
			continue
		}
		unread := r.unread(note)
		for _, j := range jobs {
			at := j.path
			if at == fastsync.Root {
				at = unread // not all that is in the root has failed
			} else if !r.names(note, at, g.kind) && (unread == "" || j.listed != unread) {
				continue
			}
			if _, ok := open[at]; !ok && at != "" {
				open[at] = verdict{reason: note, own: true}
			}
		}
	}
	more := res.cut || len(open) >= maxRemoved // than is kept
	for _, j := range jobs {
		if _, ok := covering(open, j.path); more && !ok {
			open[j.path] = verdict{reason: cause(first.notes), own: true}
		}
	}
	if why := cause(first.notes); len(open) == 0 && first.code == exitPartial && !belowNoDirectory(why) && !vanished(why) {
		r.cfg.Log.Warn().Str("err", why).Msg("rsync complained but all paths are in sync")
	}
	return open, nil
}

// verifyHalves is verify for two halves of a list on which rsync says more than is
// kept: of what is missing in that nothing is known. Each path is named alone.
func (r *Rsyncer) verifyHalves(ctx context.Context, s *session, g *group, jobs []job, first result) (map[string]verdict, error) {
	jobs = slices.Clone(jobs)
	for i := range jobs {
		jobs[i].listed = ""
	}
	open, err := r.verify(ctx, s, g, jobs[:len(jobs)/2], first)
	if err != nil {
		return nil, err
	}
	rest, err := r.verify(ctx, s, g, jobs[len(jobs)/2:], first)
	maps.Copy(open, rest)
	return open, err
}

// settle writes into the outcome how each job ended.
func (r *Rsyncer) settle(s *session, k kind, jobs []job, open map[string]verdict) error {
	if !r.pull {
		root, err := r.openRoot() // what changed is no news where the root has gone
		if err != nil {
			return err
		}
		root.Close()
	}
	out := &s.outcome
	lasting := maps.Clone(open)
	maps.DeleteFunc(lasting, func(p string, v verdict) bool { return !v.held && r.overtaken(k, p, v, s.begun) })
	brakes, faults := above(lasting, true), above(lasting, false)
	listed := map[string]bool{}
	for _, j := range jobs {
		listed[j.path] = true
		v, bad := covering(open, j.path)
		_, braked := brakes[j.path]
		below, hindered := faults[j.path]
		switch {
		case j.before != nil && r.changed(j), k == deletes && r.back(j):
			out.Again = append(out.Again, j.changes...)
		case bad && v.held, braked:
			out.Held = append(out.Held, j.changes...)
		case bad && v.busy:
			out.Again = append(out.Again, fastsync.Change{Path: j.path, Scope: fastsync.Entry})
		case bad && r.overtaken(k, j.path, v, s.begun):
			out.Again = append(out.Again, j.changes...)
		case bad:
			s.fail(j, v.reason)
		case s.undeleted && hindered:
			s.fail(j, "what is gone from it was not deleted: "+below.reason)
		case s.undeleted: // for what is amiss with another path of the run
			out.Again = append(out.Again, j.changes...)
		case k == deletes:
			out.Deleted += len(j.changes)
		default:
			out.Shipped += len(j.changes)
		}
	}
	if k != entries && k != deletes {
		for p, v := range open {
			if v.held || v.busy || listed[p] || !below(p, listed) {
				continue
			}
			c := fastsync.Change{Path: p, Scope: fastsync.Tree}
			if _, ok := lasting[p]; ok {
				out.Failed = append(out.Failed, fastsync.Failure{Change: c, Reason: v.reason})
			} else {
				out.Again = append(out.Again, c)
			}
		}
	}
	return nil
}

// covering finds the verdict on a path or on a directory above it that the
// target does not have.
func covering(open map[string]verdict, p string) (verdict, bool) {
	for at := p; ; at = path.Dir(at) {
		if v, ok := open[at]; ok && (at == p || !v.held) {
			return v, true
		}
		if at == "." {
			return verdict{}, false
		}
	}
}

// above is every directory that a deletion was held below, or else that a path
// could not be shipped below, and one of these verdicts; the path itself is one.
func above(open map[string]verdict, held bool) map[string]verdict {
	found := map[string]verdict{}
	for p, v := range open {
		for at := p; v.held == held; at = path.Dir(at) {
			if _, ok := found[at]; ok {
				break
			}
			found[at] = v
		}
	}
	return found
}

// undeleted tells whether a run has left its deletions out: rsync does so for all
// of its list where it could not read one directory of it, at either side.
func undeleted(notes []string) bool {
	return slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, "skipping file deletion") })
}

// below tells whether a path is below one of the listed.
func below(p string, listed map[string]bool) bool {
	for at := p; at != "."; {
		if at = path.Dir(at); listed[at] {
			return true
		}
	}
	return false
}
