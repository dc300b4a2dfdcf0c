package rsyncer

import (
	"context"
	"path"

	"github.com/fastsync/fastsync"
)

// Settle sets the times of the directories that changes touched: each change's
// own, if it is a directory, those above it and the root's, and for a tree all
// below it. Runs that ship leave them out, since each file that lands changes
// them again. It ships no file, makes and deletes nothing. A time that may not
// be set is no error: it is a matter of who owns the directory.
func (r *Rsyncer) Settle(ctx context.Context, changes []fastsync.Change) error {
	defer r.use(ctx, fastsync.Bulk)()
	jobs, err := r.directories(changes)
	if err != nil {
		return err
	}
	for k, part := range jobs {
		if r.pull {
			if part, err = r.belowLinks(ctx, part); err != nil {
				return err
			}
		}
		for from := 0; from < len(part); from += maxEntries {
			list := timesList(k, part[from:min(from+maxEntries, len(part))])
			res := r.cold(ctx, call{fastsync.Bulk, r.operands(r.timesArgs(k)), list, func(item) {}, nil})
			if err := r.judge(ctx, res); err != nil {
				return err
			}
			if res.code == exitPartial {
				r.cfg.Log.Debug().Str("err", cause(res.notes)).Msg("some times of directories cannot be set")
			}
		}
	}
	return nil
}

// timesArgs make a run that neither creates nor updates a file, but brings
// directories' attributes over, times with them.
func (r *Rsyncer) timesArgs(k kind) []string {
	depth := "-d"
	if k == trees {
		depth = "-r"
	}
	return append(r.common(fastsync.Bulk), "--no-omit-dir-times", "--files-from=-", "--from0", "--relative",
		depth, "--existing", "--ignore-existing", "--ignore-missing-args")
}

// timesList puts "./" in front of each: so the root is part of the list. The
// root alone is asked for by a name that need not be there, since "." would
// list all that is in it.
func timesList(k kind, dirs []string) []byte {
	var out []byte
	for _, d := range dirs {
		if d == fastsync.Root && k == entries {
			d = fastsync.PartialDir
		}
		out = append(append(append(out, "./"...), d...), 0)
	}
	return out
}

// directories are what changes touched, each once. Of another host's root
// nobody here knows what is a directory, and files in the list do no harm.
func (r *Rsyncer) directories(changes []fastsync.Change) (map[kind][]string, error) {
	g, err := r.openGate()
	if err != nil {
		return nil, err
	}
	defer g.close()
	jobs, seen := map[kind][]string{}, map[string]bool{}
	for _, c := range changes {
		if fastsync.CheckPath(c.Path) != nil {
			continue
		}
		k, dir := entries, c.Path
		if c.Scope == fastsync.Tree {
			k = trees
		}
		for !r.pull && g.parent(dir).stop != "" {
			k, dir = entries, path.Dir(dir)
		}
		if key := string(rune('0'+k)) + dir; !seen[key] && !r.cfg.Filter.Excluded(dir, true) {
			seen[key] = true
			jobs[k] = append(jobs[k], dir)
		}
	}
	return jobs, nil
}
