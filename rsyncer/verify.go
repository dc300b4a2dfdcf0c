package rsyncer

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/fastsync/fastsync"
)

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
