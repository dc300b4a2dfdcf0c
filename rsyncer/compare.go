package rsyncer

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/fastsync/fastsync"
)

// newDirs are directories that the target does not have: one change each
// covers all that is below.
type newDirs map[string]bool

// covers tells whether a new directory above it covers the item, and remembers
// the item if it is one itself.
func (n newDirs) covers(it item) bool {
	if it.gone {
		return false
	}
	for at := it.path; at != "."; {
		if at = path.Dir(at); n[at] {
			return true
		}
	}
	if it.dir && it.made {
		n[it.path] = true
	}
	return false
}

// Compare calls found for each path at which the target differs from the root,
// whether or not deletes are on. Without changes (nil) it compares the whole root,
// and the times of directories with it, else only these. A directory that
// is new at the target is one Tree change. So is each [fastsync.PartialDir],
// as gone, when the whole root is compared. It writes nothing. An
// [fastsync.Unread] names what could not be read; the rest was compared.
func (r *Rsyncer) Compare(ctx context.Context, changes []fastsync.Change, found func(fastsync.Difference)) error {
	defer r.use(ctx, fastsync.Bulk)()
	fresh, parts := newDirs{}, map[string]bool{}
	each := func(it item) {
		if fresh.covers(it) {
			return
		}
		if dir := partial(it.path); it.gone && dir != "" {
			if !parts[dir] {
				parts[dir] = true
				found(fastsync.Difference{Change: fastsync.Change{Path: dir, Scope: fastsync.Tree}, Gone: true})
			}
			return
		}
		d := fastsync.Difference{Change: fastsync.Change{Path: it.path, Scope: fastsync.Entry}, Gone: it.gone, Times: it.timeOnly}
		switch {
		case it.dir && it.made:
			d.Scope = fastsync.Tree
		case it.path == fastsync.Root && !it.timeOnly:
			d.Scope = fastsync.Listing
		}
		found(d)
	}
	if changes == nil {
		if err := r.ready(ctx); err != nil {
			return err
		}
		args := r.operands(append(r.common(fastsync.Bulk), "-r", "-n", "--delete", "--no-omit-dir-times"))
		return r.compareRun(ctx, args, nil, each)
	}
	var out fastsync.Outcome
	to := sorter{r: r, lane: fastsync.Bulk, remove: true, whole: true, out: &out}
	if _, err := to.sort(changes); err != nil {
		return err
	}
	for _, f := range out.Failed {
		found(fastsync.Difference{Change: f.Change})
	}
	var all fastsync.Unread
	for _, g := range to.to {
		for from := 0; g != nil && from < len(g.jobs); from += maxEntries {
			part := g.jobs[from:min(from+maxEntries, len(g.jobs))]
			args := r.operands(append(r.args(fastsync.Bulk, spec{g.kind, true, -1}), "-n"))
			err := r.compareRun(ctx, args, list(g.kind, part), each)
			if unread := (*fastsync.Unread)(nil); errors.As(err, &unread) {
				all.Failures = append(all.Failures, unread.Failures...)
			} else if err != nil {
				return err
			}
		}
	}
	if len(all.Failures) > 0 {
		return &all
	}
	return nil
}

// compareRun returns an [fastsync.Unread] on exit 23: a directory that cannot
// be read hides what differs below it, and equality must not be claimed.
func (r *Rsyncer) compareRun(ctx context.Context, args []string, stdin []byte, each func(item)) error {
	res := r.cold(ctx, call{fastsync.Bulk, args, stdin, each, nil})
	if err := r.judge(ctx, res); err != nil {
		return err
	}
	if res.code != exitPartial {
		return nil
	}
	unread := &fastsync.Unread{}
	for _, note := range res.notes {
		if p, ok := r.quoted(note); ok {
			c := fastsync.Change{Path: p, Scope: fastsync.Tree}
			unread.Failures = append(unread.Failures, fastsync.Failure{Change: c, Reason: note})
		}
	}
	if len(unread.Failures) == 0 {
		return r.exitError(fastsync.Transient, res, "not everything could be compared: make it readable, or exclude it", cause(res.notes))
	}
	return unread
}

// quoted is the path below the local root that a message of rsync's names.
func (r *Rsyncer) quoted(note string) (string, bool) {
	_, rest, found := strings.Cut(note, `"`+r.source)
	end := strings.LastIndexByte(rest, '"')
	if r.pull || !found || end <= 0 {
		return "", false
	}
	return rest[:end], fastsync.CheckPath(rest[:end]) == nil
}
