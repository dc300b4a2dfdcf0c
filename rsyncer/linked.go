package rsyncer

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/fastsync/fastsync"
)

// In a pull nobody here can look at the source, and rsync follows a link that is
// above a path of its list: it becomes a directory at the target, with what the
// link leads to. So each directory that a run may have taken for one is asked for
// by itself; if it is none, it ships in the place of all that was below it.

// crossed tells whether rsync gave up its whole list because something above a path
// of it is no directory.
func crossed(res result) bool {
	return res.code == exitProtocol && strings.Contains(strings.Join(res.notes, "\n"), "ABORTING due to invalid path from sender")
}

// linked parts a pull's jobs into those whose directories are such at the source
// and, as a group of its own, the topmost of what is no directory above the others.
func (r *Rsyncer) linked(ctx context.Context, s *session, g *group, jobs []job, res result) (rest []job, tops *group, err error) {
	asked := doubtful(g, jobs, crossed(res) || slices.ContainsFunc(res.notes, belowNoDirectory))
	if len(asked) == 0 {
		return jobs, nil, nil
	}
	dirs, err := r.areDirectories(ctx, s.lane, asked)
	if err != nil {
		return nil, nil, err
	}
	tops = &group{kind: entries, released: g.released, at: map[string]int{}}
	for _, j := range jobs {
		top := ""
		for at := j.path; at != "."; at = path.Dir(at) {
			if asked[at] && !dirs[at] {
				top = at
			}
		}
		if top == "" {
			rest = append(rest, j)
			continue
		}
		tops.add(job{path: top, changes: j.changes})
	}
	return rest, tops, nil
}

// doubtful are the directories of jobs' paths that may be none at the source:
// those that the run made, and those that are in its list beside what is below
// them, where one that is no directory goes unnoticed. With all they are all.
func doubtful(g *group, jobs []job, all bool) map[string]bool {
	above, listed := map[string]bool{}, map[string]bool{}
	for _, j := range jobs {
		listed[j.path] = true
		at := path.Dir(j.path)
		if g.kind != entries { // which rsync follows if it is a link itself
			at = j.path
		}
		for ; at != "." && !above[at]; at = path.Dir(at) {
			above[at] = true
		}
	}
	for p := range above {
		if beside := listed[p] && g.kind == entries; !all && !g.made[p] && !beside {
			delete(above, p)
		}
	}
	return above
}

// areDirectories asks rsync which of some paths are directories at the source: in a
// dry run to where there is nothing each is told of as new.
func (r *Rsyncer) areDirectories(ctx context.Context, lane fastsync.Lane, asked map[string]bool) (map[string]bool, error) {
	args := append(r.common(lane), "-n", "-d", "--files-from=-", "--from0", "--relative", "--no-implied-dirs", "--ignore-missing-args",
		"--", r.source, path.Join(r.target, fastsync.PartialDir, "nothing")+"/")
	var stdin []byte
	for p := range asked {
		stdin = append(append(append(stdin, '/'), p...), 0)
	}
	found := map[string]bool{}
	res := r.cold(ctx, call{lane, args, stdin, func(it item) {
		if it.dir {
			found[it.path] = true
		}
	}})
	return found, r.judge(ctx, res)
}

// shipLinked ships what is no directory, and then what is left of the run that took
// it for one.
func (r *Rsyncer) shipLinked(ctx context.Context, s *session, g *group, rest []job, tops *group, res result) error {
	if g.tops { // it is this one moment and that the next
		for _, j := range tops.jobs {
			s.outcome.Again = append(s.outcome.Again, j.changes...)
		}
	} else {
		tops.tops = true
		if err := r.ship(ctx, s, tops); err != nil {
			return err
		}
	}
	switch {
	case len(rest) == 0:
		return nil
	case crossed(res):
		return r.shipPart(ctx, s, g, rest)
	}
	return r.conclude(ctx, s, g, rest, res)
}
