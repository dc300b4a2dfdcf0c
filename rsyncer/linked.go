package rsyncer

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/fastsync/fastsync"
)

// In a pull nobody here can look at the source, and rsync follows a link that is
// above a path of its list, or listed with what is below it: it becomes a directory
// at the target, with what the link leads to. So rsync is asked which of these are
// directories; what is none ships by itself in the place of all that was below it.

// beside are the directories of a pull's list that have to be asked for before it
// runs: the event that they are links may be why they are in it.
func beside(g *group, jobs []job) map[string]bool {
	asked, above := map[string]bool{}, aboveAll(pathsOf(jobs))
	for _, j := range jobs {
		if g.kind == entries && !above[j.path] {
			continue
		}
		for at := j.path; at != "." && !asked[at]; at = path.Dir(at) {
			asked[at] = true
		}
	}
	return asked
}

// taken are those that have to be asked for after the run: it has made them, or has
// found that something above a path is no directory.
func taken(g *group, jobs []job, res result) map[string]bool {
	asked := aboveAll(pathsOf(jobs))
	if crossed(res) || slices.ContainsFunc(res.notes, belowNoDirectory) {
		return asked
	}
	for p := range asked {
		if !g.made[p] {
			delete(asked, p)
		}
	}
	return asked
}

func pathsOf(jobs []job) (paths []string) {
	for _, j := range jobs {
		paths = append(paths, j.path)
	}
	return paths
}

// aboveAll are all directories that paths are in, but the root.
func aboveAll(paths []string) map[string]bool {
	above := map[string]bool{}
	for _, p := range paths {
		for at := path.Dir(p); at != "." && !above[at]; at = path.Dir(at) {
			above[at] = true
		}
	}
	return above
}

// crossed tells whether rsync gave up its whole list because something above a path
// of it is no directory.
func crossed(res result) bool {
	return res.code == exitProtocol && strings.Contains(strings.Join(res.notes, "\n"), "ABORTING due to invalid path from sender")
}

// shipLinks takes the jobs at and below what is no directory out of a list, ships
// the topmost of these by themselves, and returns the rest.
func (r *Rsyncer) shipLinks(ctx context.Context, s *session, g *group, jobs []job, asked map[string]bool) (rest []job, err error) {
	if len(asked) == 0 {
		return jobs, nil
	}
	dirs, err := r.areDirectories(ctx, s.lane, asked)
	if err != nil {
		return nil, err
	}
	tops := &group{kind: entries, released: g.released, tops: true, at: map[string]int{}}
	for _, j := range jobs {
		top := topmost(j.path, asked, dirs)
		switch {
		case top == "":
			rest = append(rest, j)
		case g.tops && top == j.path: // it is this one moment and that the next
			s.outcome.Again = append(s.outcome.Again, j.changes...)
		default:
			tops.add(job{path: top, changes: j.changes})
		}
	}
	if len(tops.jobs) > 0 {
		err = r.ship(ctx, s, tops)
	}
	return rest, err
}

// topmost is what is no directory of a path and those that it is in, "" for nothing.
func topmost(p string, asked, dirs map[string]bool) (top string) {
	for at := p; at != "."; at = path.Dir(at) {
		if asked[at] && !dirs[at] {
			top = at
		}
	}
	return top
}

// belowLinks has what is no directory stand for the paths that were below it.
func (r *Rsyncer) belowLinks(ctx context.Context, paths []string) ([]string, error) {
	asked := aboveAll(paths)
	if len(asked) == 0 {
		return paths, nil
	}
	dirs, err := r.areDirectories(ctx, fastsync.Bulk, asked)
	if err != nil {
		return nil, err
	}
	for i, p := range paths {
		if top := topmost(p, asked, dirs); top != "" {
			paths[i] = top
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
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
	}, nil})
	return found, r.judge(ctx, res)
}
