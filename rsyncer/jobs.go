package rsyncer

import (
	"os"
	"path"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

// job is a path of a run's list, and the changes that it settles.
type job struct {
	path    string
	changes []fastsync.Change
	before  *mark  // of an entry that is a regular file, else nil
	aged    bool   // its time of change does not vouch for its content
	dir     bool   // as the gate saw it
	alone   bool   // nothing below it, also in a run of listings or trees
	listed  string // its directory, if that is in the list instead
}

// group is a list of jobs for runs of one kind.
type group struct {
	kind     kind
	released bool
	jobs     []job
	without  []string             // files that are open: they follow
	recent   map[string]time.Time // when files changed that had just changed at the look
	at       map[string]int       // path → place in jobs: no path twice in a list
	told     map[string]bool      // aged paths of which a run said something
	read     bool                 // contents are compared, not only sizes and times
	made     map[string]bool      // directories that the last run has made
	tops     bool                 // what a pull had taken for directories
}

// groups in the order of their runs: deletions last, so that a file moved from
// one place to another is never at neither.
type groups [2 * kinds]*group

// add puts the job for p, which settles c, where its kind belongs.
func (g *groups) add(k kind, p string, c fastsync.Change, info os.FileInfo) *group {
	slot := int(k) * 2
	if c.Released {
		slot++
	}
	if g[slot] == nil {
		g[slot] = &group{kind: k, released: c.Released, at: map[string]int{}, recent: map[string]time.Time{}}
	}
	g[slot].add(job{path: p, changes: []fastsync.Change{c}, dir: info != nil && info.IsDir(), before: markOf(info), aged: aged(info)})
	return g[slot]
}

func (g *group) add(j job) {
	if i, ok := g.at[j.path]; ok {
		g.jobs[i].changes = append(g.jobs[i].changes, j.changes...)
		return
	}
	g.at[j.path] = len(g.jobs)
	g.jobs = append(g.jobs, j)
}

// except is the group without the jobs for some paths. It is for kinds that only
// delete, which keep nothing in mind of files.
func (g *group) except(paths map[string]bool) *group {
	rest := &group{kind: g.kind, released: g.released, at: map[string]int{}}
	for _, j := range g.jobs {
		if !paths[j.path] {
			rest.add(j)
		}
	}
	return rest
}

// len counts the jobs of kinds that ship.
func (g *groups) len() (n int) {
	for _, one := range g[:2*int(deletes)] {
		if one != nil {
			n += len(one.jobs)
		}
	}
	return n
}

// merge lets entries ride in the runs of trees and listings: each run costs a
// login. Not with deletions: one unreadable file would keep rsync from deleting
// anything in its run.
func (g *groups) merge() {
	from, flat, deep := g[2*int(entries)], g[2*int(listings)], g[2*int(trees)]
	if from == nil {
		return
	}
	rest := &group{kind: entries, at: map[string]int{}, recent: map[string]time.Time{}}
	implied := map[string]string{} // directory → a file below it in deep
	for _, j := range from.jobs {
		j.alone = true
		switch {
		case deep != nil && !j.dir: // a directory would go with all below it
			deep.add(j)
			for dir := path.Dir(j.path); j.before != nil && dir != "." && implied[dir] == ""; dir = path.Dir(dir) {
				implied[dir] = j.path
			}
		case flat != nil:
			flat.add(j)
		default:
			rest.add(j)
		}
	}
	rest.imply(deep, implied)
	g[2*int(entries)] = rest
	if len(rest.jobs) == 0 {
		g[2*int(entries)] = nil
	}
}

// imply moves directories to the jobs of files in them: with --relative rsync
// sends the directories of a listed path too. Should the file be gone by then,
// its job goes round again and they with it.
func (g *group) imply(into *group, files map[string]string) {
	kept := g.jobs[:0]
	for _, j := range g.jobs {
		if file, ok := files[j.path]; ok {
			into.add(job{path: file, changes: j.changes})
			continue
		}
		kept = append(kept, j)
	}
	g.jobs = kept
}

// more are the arguments of a run that only this group needs: to leave out the files
// that are open, and to compare contents.
func (g *group) more() []string {
	var args []string
	if g.read {
		args = append(args, "--checksum")
	}
	for _, p := range g.without {
		if strings.ContainsAny(p, "*?[") { // elsewhere a backslash is itself
			p = wildcards.Replace(p)
		}
		args = append(args, "--filter=- /"+p)
	}
	return args
}

var wildcards = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)
