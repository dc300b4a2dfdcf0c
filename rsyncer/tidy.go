package rsyncer

import (
	"context"
	"path"
	"slices"

	"github.com/fastsync/fastsync"
)

// Tidy removes the beginnings of files that cut runs left at the target, and
// nothing else, whether or not deletes are on: beside each change's path, in a
// listing's directory, all below a tree's; without changes (nil) everywhere,
// which walks the whole root. What is still to be shipped starts anew then.
func (r *Rsyncer) Tidy(ctx context.Context, changes []fastsync.Change) error {
	defer r.use(ctx, fastsync.Bulk)()
	if changes == nil {
		return r.tidy(ctx, []string{"-r"}, nil)
	}
	g, err := r.openGate()
	if err != nil {
		return err
	}
	defer g.close()
	lists := map[kind]*group{listings: {at: map[string]int{}}, trees: {at: map[string]int{}}}
	for _, c := range changes {
		if fastsync.CheckPath(c.Path) != nil {
			continue
		}
		k, dir := listings, c.Path
		switch c.Scope {
		case fastsync.Tree:
			k = trees
		case fastsync.Entry:
			dir = path.Dir(c.Path)
		}
		if !r.pull && g.parent(dir).stop != "" {
			continue // gone, or a link, which rsync would follow
		}
		lists[k].add(job{path: dir})
	}
	for k, g := range lists {
		depth := "-d"
		if k == trees {
			depth = "-r"
		}
		args := []string{depth, "--files-from=-", "--from0", "--relative", "--ignore-missing-args"}
		for part := range slices.Chunk(g.jobs, maxEntries) {
			if err := r.tidy(ctx, args, list(k, part)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Rsyncer) tidy(ctx context.Context, what []string, stdin []byte) error {
	args := slices.Concat(what, []string{
		"--existing", "--ignore-existing", "--delete", "--ignore-errors",
		"--filter=R " + fastsync.PartialDir + "/***", "--filter=P *", // before the operator's patterns
	}, r.common(fastsync.Bulk))
	return r.judge(ctx, r.cold(ctx, call{fastsync.Bulk, r.operands(args), stdin, func(item) {}, nil}))
}

// partial is the folder of cut files that p is or is in, or "".
func partial(p string) string {
	found := ""
	for at := p; at != "."; at = path.Dir(at) {
		if path.Base(at) == fastsync.PartialDir {
			found = at
		}
	}
	return found
}
