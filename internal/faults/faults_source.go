package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync/internal/lab"
)

// entriesOf counts what is below a folder.
func entriesOf(folder string) (n int) {
	_ = filepath.WalkDir(folder, func(_ string, _ fs.DirEntry, err error) error {
		if err == nil {
			n++
		}
		return nil
	})
	return n
}

// gone takes the root's content away while nothing else changes it, sees that
// the target keeps all that it has, and gives it back when the status has shown it.
func gone(take, give func(r *rig) error) (harm, heal func(ctx context.Context, r *rig) error) {
	var release func()
	var before int
	harm = func(ctx context.Context, r *rig) error {
		release = r.quiet()
		if err := r.same(ctx, r.target, false, 30*time.Second); err != nil {
			return err
		}
		before = entriesOf(r.target)
		return take(r)
	}
	heal = func(ctx context.Context, r *rig) error {
		defer release()
		if err := lab.Pause(ctx, 2*time.Second); err != nil {
			return err
		}
		if now := entriesOf(r.target); now < before {
			return fmt.Errorf("the target had %d entries and has %d: the root's absence was taken for deletions", before, now)
		}
		return give(r)
	}
	return harm, heal
}

// becomeLinks makes directories, and when they are at the target has links take
// their places: into the root, out of it, and to nowhere.
func becomeLinks(ctx context.Context, r *rig) error {
	links := map[string]string{}
	for to, where := range map[string]string{"into": "keep-real", "out": filepath.Join(r.dir, "canary"), "nowhere": "nothing"} {
		links[filepath.Join(r.root, fmt.Sprintf("keep-%s-%d", to, r.next()))] = where
	}
	for dir := range links {
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
			return err
		}
		for _, f := range []string{"a", "sub/b"} {
			if err := os.WriteFile(filepath.Join(dir, f), record(r.rng, 1000), 0o644); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(r.root, "keep-real"), 0o755); err != nil {
		return err
	}
	if err := r.same(ctx, r.target, false, 30*time.Second); err != nil {
		return err
	}
	for dir, where := range links {
		if err := errors.Join(os.RemoveAll(dir), os.Symlink(where, dir)); err != nil {
			return err
		}
	}
	return nil
}

func disk(r *rig) string { return filepath.Join(r.dir, "disk") }
func bind(r *rig) error  { return unix.Mount(disk(r), r.root, "", unix.MS_BIND, "") }

var (
	unmounted, mounted = gone(func(r *rig) error {
		if err := unix.Unmount(r.root, unix.MNT_DETACH); err != nil {
			return err
		}
		// The agent sees that itself, and publishes nothing; a CMS does not.
		return r.client.Publish(context.Background(), channel, fmt.Sprintf(`{"path": %q, "scope": "tree"}`, r.root)).Err()
	}, bind)
	emptied, filled = gone(
		func(r *rig) error { // while nobody looks: what is only half emptied is not empty
			r.stopped(r.agent, true)
			defer r.stopped(r.agent, false)
			return moveAll(r.root, filepath.Join(r.dir, "all"))
		},
		func(r *rig) error { return moveAll(filepath.Join(r.dir, "all"), r.root) },
	)
)

// absent is what rsync says of a file that is not there any more.
var absent = regexp.MustCompile(`No such file or directory \(2\)|Not a directory \(20\)`)

var sourceFaults = []fault{
	{
		name: "source unmounted", promised: "nothing is deleted; shown; all of it ships when it is back",
		lacks: needsRoot, shows: "root is gone|root_error|unmounted|empty",
		set: func(r *rig) {
			sure(r)
			r.before = func(r *rig) error {
				if err := r.mount(disk(r), "size=200m"); err != nil {
					return err
				}
				r.cleanup(func() { _ = unix.Unmount(r.root, unix.MNT_DETACH) })
				return bind(r)
			}
		},
		harm: unmounted, heal: mounted, settles: time.Minute,
	},
	{
		name: "source emptied at once", promised: "nothing is deleted; shown; goes on when it is filled", fast: true,
		set: sure, shows: "empty", harm: emptied, heal: filled, settles: time.Minute,
	},
	{
		name: "directories renamed while they are walked", promised: "converges by events alone",
		set: sure,
		harm: func(ctx context.Context, r *rig) error {
			defer r.quiet()()
			if err := r.remove("keep-[abc][0-9]*"); err != nil {
				return err
			}
			a, b := filepath.Join(r.root, fmt.Sprintf("keep-a%d", r.next())), filepath.Join(r.root, fmt.Sprintf("keep-b%d", r.next()))
			for i := range 300 {
				d := filepath.Join(a, fmt.Sprint(i%20), fmt.Sprint(i))
				if err := os.MkdirAll(d, 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(d, "f"), record(r.rng, 500), 0o644); err != nil {
					return err
				}
				if i%5 == 4 {
					if err := os.Rename(a, b); err != nil {
						return err
					}
					a, b = b, a
					// Now the events before it have been read, now not.
					if err := lab.Pause(ctx, r.random(time.Millisecond, 20*time.Millisecond)); err != nil {
						return err
					}
				}
			}
			return os.Rename(a, filepath.Join(r.root, fmt.Sprintf("keep-c%d", r.next()))) // of which no event has told before
		},
	},
	{
		name: "a parent becomes a file, and back", promised: "converges; nothing fails for ever", fast: true,
		set: sure,
		harm: func(ctx context.Context, r *rig) error {
			p := filepath.Join(r.root, fmt.Sprintf("keep-parent-%d", r.next()))
			for i := range 20 {
				if err := os.MkdirAll(filepath.Join(p, "x"), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(p, "x", "f"), record(r.rng, 500), 0o644); err != nil {
					return err
				}
				if err := lab.Pause(ctx, r.random(0, 30*time.Millisecond)); err != nil {
					return err
				}
				if err := os.RemoveAll(p); err != nil {
					return err
				}
				if err := os.WriteFile(p, record(r.rng, 100+i), 0o644); err != nil {
					return err
				}
				if err := lab.Pause(ctx, r.random(0, 30*time.Millisecond)); err != nil {
					return err
				}
				if i == 19 {
					break // it stays
				}
				if err := os.Remove(p); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "a directory becomes a link, in a pull", promised: "a link at the target, and nothing of what it leads to",
		set: func(r *rig) { overSSH(r); r.way, r.apart, r.still = "pull", true, true }, harm: becomeLinks,
	},
	{
		name: "files vanish", promised: "no failure, nothing left behind",
		set: sure,
		harm: func(ctx context.Context, r *rig) error {
			from := len(r.said())
			at := func(i int) string { return filepath.Join(r.root, fmt.Sprintf("keep-vanish-%d", i)) }
			const files, living = 1000, 20 // each lives for as long as its way to rsync takes
			for i := range files + living {
				if i < files {
					if err := os.WriteFile(at(i), record(r.rng, 100), 0o644); err != nil {
						return err
					}
				}
				if i >= living {
					if err := os.Remove(at(i - living)); err != nil {
						return err
					}
				}
				if i%living == 0 {
					if err := lab.Pause(ctx, r.random(0, 20*pauseUnit)); err != nil {
						return err
					}
				}
			}
			if err := lab.Pause(ctx, 2*second); err != nil {
				return err
			}
			for line := range bytes.Lines(r.said()[from:]) {
				if bytes.Contains(line, []byte("cannot ship a path")) && absent.Match(line) {
					return fmt.Errorf("a file that has gone counts as a failure: %s", line)
				}
			}
			return nil
		},
	},
	{
		name: "a file grows and shrinks while it ships", promised: "never torn; its last content is there",
		set: sure, harm: growAndShrink,
	},
	{
		name: "rewritten with equal size in one second", promised: "its last content is there", fast: true,
		set: sure,
		harm: func(ctx context.Context, r *rig) error {
			p := fmt.Sprintf("keep-equal-%d", r.next())
			var err error
			for range 30 {
				if err = os.WriteFile(filepath.Join(r.root, p), record(r.rng, 1000), 0o644); err != nil {
					return err
				}
				if err = lab.Pause(ctx, r.random(0, 20*time.Millisecond)); err != nil {
					return err
				}
			}
			_, err = r.arrives(ctx, p, 10*time.Second)
			return err
		},
	},
	{
		name: "a file is rewritten while bulk ships it", promised: "never an older version over a newer",
		set: sure, harm: passedOver,
	},
	{
		name: "a file is written slowly", promised: "nothing of it ships before it is closed",
		set: sure, harm: func(ctx context.Context, r *rig) error { return writeSlowly(ctx, r, r.long) },
	},
	{
		name: "an unreadable file", promised: "listed by name; all others ship; heals",
		lacks: needsRoot, shows: "keep-unreadable", settles: 2 * time.Minute,
		set: func(r *rig) {
			sure(r)
			r.still, r.stranger = true, true
			r.command = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
			r.before = func(r *rig) error {
				for _, d := range []string{r.target, r.state} {
					if err := os.Chown(d, nobody, nobody); err != nil {
						return err
					}
				}
				return nil
			}
		},
		harm: func(ctx context.Context, r *rig) error {
			p := filepath.Join(r.root, "keep-unreadable")
			if err := errors.Join(os.RemoveAll(p), os.WriteFile(p, record(r.rng, 100), 0o000)); err != nil {
				return err
			}
			return r.othersArrive(ctx)
		},
		heal: func(_ context.Context, r *rig) error {
			return os.Chmod(filepath.Join(r.root, "keep-unreadable"), 0o644)
		},
	},
}

// moveAll moves what is in one folder to another.
func moveAll(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".nfs") {
			continue
		}
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
