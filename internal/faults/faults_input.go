package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fastsync/fastsync/internal/lab"
)

const (
	channel  = "new_files"
	messages = 1_000_000
	// flooded is the most memory that fastsync may take meanwhile, in bytes.
	flooded = 150 << 20
)

// flood looks at fastsync's memory while a million messages come.
func flood(ctx context.Context, r *rig) error {
	defer r.quiet()()
	most := int64(0)
	looks, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		for looks.Err() == nil {
			most = max(most, r.bounds().rss)
			_ = lab.Pause(looks, 100*pauseUnit)
		}
	})
	err := r.publishMany(ctx)
	stop()
	looking.Wait()
	r.peak = max(r.peak, most)
	if err == nil && most > flooded {
		err = fmt.Errorf("fastsync took %d MB, at most %d are allowed", most>>20, flooded>>20)
	}
	return err
}

// publishMany publishes a million messages as fast as Redis takes them, which after a
// quarter of them takes no events for a while.
func (r *rig) publishMany(ctx context.Context) error {
	for done := 0; done < messages; {
		pipe := r.client.Pipeline()
		if done == messages/4 {
			pipe.ConfigSet(ctx, "maxmemory", "1")
		}
		for range 10_000 {
			pipe.Publish(ctx, channel, fmt.Sprintf("flood/%d.jpg", done%50_000))
			done++
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	err := lab.Pause(ctx, 20*second) // the messages are still being read
	if err = errors.Join(err, r.client.ConfigSet(ctx, "maxmemory", "0").Err()); err != nil {
		return err
	}
	if out := r.ask(ctx); !strings.Contains(out, `"targets"`) {
		r.note("status meanwhile: %s", out)
	}
	return nil
}

func garbage() []string {
	deep := strings.Repeat(`{"path":`, 100_000) + `"x"` + strings.Repeat("}", 100_000)
	return []string{
		"", " ", "\x00", "a\x00b", "\xff\xfe", "\r\n", strings.Repeat("x", 16<<20), deep, strings.Repeat("[", 100_000), `{"path":17}`, `{"paths":{}}`, `{"paths":[1,2]}`,
		`{"path":"a","scope":"universe"}`, `{"path":"a"`, `{}`, `[]`, `null`, `"a`, `{"ref":"only"}`, `{"path":""}`, "%s%n%x", "\x1b[2J", "$(touch /tmp/x)", "`id`", "--help",
	}
}

// outside is what a message may say to lead out of a root, with the canary there.
func (r *rig) outsiders() []string {
	secret := filepath.Join(r.canary.dir, "secret")
	up := "../canary/secret"
	return []string{
		secret, up, "./" + up, "keep-link/secret", "keep-link/sub/secret", "keep-link/", "keep-link/.", r.root + "/" + up, r.root + "/keep-link/secret", "//" + secret, "keep/../" + up,
		r.root + "/../canary/secret", "keep-link//secret", "./keep-link/./secret", `{"path":"keep-link","scope":"tree"}`, `{"path":"keep-link/sub","scope":"listing"}`,
		`{"paths":["` + up + `","keep-link/secret"]}`, "/", "..", ".", "/etc/passwd", "file://" + secret, "keep-link\x00/secret",
	}
}

func (r *rig) say(ctx context.Context, all []string) error {
	for _, m := range all {
		if err := r.client.Publish(ctx, channel, m).Err(); err != nil {
			return err
		}
	}
	return nil
}

// flip makes a directory of the root's a link to the canary and back, as fast as
// it can, while paths below it are published.
func flip(ctx context.Context, r *rig) error {
	at, dir := filepath.Join(r.root, "keep-flip"), filepath.Join(r.dir, "flip-dir")
	for _, d := range []string{dir, filepath.Join(dir, "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d, "secret"), record(r.rng, 100), 0o644); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var flipping sync.WaitGroup
	flipping.Go(func() {
		for ctx.Err() == nil {
			_ = os.Rename(dir, at)
			_ = os.Rename(at, dir)
			_ = os.Symlink(r.canary.dir, at)
			_ = os.Remove(at)
		}
	})
	defer flipping.Wait()
	defer cancel()
	for range 100 {
		pipe := r.client.Pipeline()
		for range 50 {
			pipe.Publish(ctx, channel, "keep-flip/secret")
			pipe.Publish(ctx, channel, `{"path":"keep-flip","scope":"tree"}`)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		if err := lab.Pause(ctx, 50*pauseUnit); err != nil {
			return err
		}
	}
	return nil
}

// careful are names that some part of the way might read as something else.
var careful = []string{
	" ", "  two", "trailing ", "-", "--delete", "-rf", "#", "#comment", ";", ";x", "a:b", "host:path", "::", "rsync:", "~", "~root", "$HOME", "$(id)", "`id`", "'", `"`, `\`, `\#012`, "*", "?", "[a]", "{a,b}", "!", "&", "|", "<>", "(", "%", "%s",
	"new\nline", "\r", "\ttab", "\x01", "\x7f", "\x1b[31m", "\xff", "\xc3\x28", "ünï", "日本", "e\u0301", "\u202e", ".", "..x", "...", ".hidden", ".fastsync", strings.Repeat("n", 255),
}

// remove removes what earlier injections made, so that the root does not grow by
// directories however long a soak goes on.
func (r *rig) remove(pattern string) error {
	old, err := filepath.Glob(filepath.Join(r.root, pattern))
	for _, p := range old {
		err = errors.Join(err, os.RemoveAll(p))
	}
	return err
}

func oddNames(_ context.Context, r *rig) error {
	top := filepath.Join(r.root, fmt.Sprintf("keep-odd-%d", r.next()))
	if err := r.remove("keep-odd-*"); err != nil {
		return err
	}
	for _, n := range careful {
		if n == "." {
			continue
		}
		d := filepath.Join(top, "in", n)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		for _, p := range []string{filepath.Join(d, n), filepath.Join(top, n)} {
			if err := os.WriteFile(p, record(r.rng, 50), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// deepDir makes a directory whose path below the root has some length in bytes.
func (r *rig) deepDir(length int) (string, error) {
	dir, err := os.OpenRoot(r.root)
	if err := errors.Join(err, r.remove("keep-deep-*")); err != nil {
		return "", err
	}
	defer func() { _ = dir.Close() }()
	rel := ""
	for len(rel) < length {
		part := strings.Repeat("d", min(200, max(length-len(rel)-1, 1)))
		if rel == "" { // which nobody moves
			part = fmt.Sprintf("keep-deep-%d-", r.next()) + part[:len(part)-20]
		}
		if err := dir.Mkdir(part, 0o755); err != nil {
			return "", err
		}
		next, err := dir.OpenRoot(part)
		if err != nil {
			return "", err
		}
		_ = dir.Close()
		dir, rel = next, filepath.Join(rel, part)
	}
	return rel, dir.WriteFile("f", record(r.rng, 10), 0o644)
}

var inputFaults = []fault{
	{name: "a million messages", promised: "bounded memory; goes on", alone: true, set: sure, harm: flood, settles: 2 * minute},
	{
		name: "garbage messages", promised: "refused and counted; goes on", fast: true, set: sure, shows: `"refused": [1-9]`,
		harm: func(ctx context.Context, r *rig) error { return r.say(ctx, garbage()) },
	},
	{
		name: "messages that lead out of the root", promised: "refused; nothing outside is read", fast: true, set: sure, shows: `"refused": [1-9]`,
		harm: func(ctx context.Context, r *rig) error { return r.say(ctx, r.outsiders()) },
	},
	{
		name: "a link flips while 10,000 paths are published", promised: "nothing outside is read", set: sure, settles: minute,
		harm: flip, heal: func(_ context.Context, r *rig) error { return os.RemoveAll(filepath.Join(r.root, "keep-flip")) },
	},
	{name: "names of every kind", promised: "byte by byte the same", fast: true, set: sure, harm: oddNames},
	{
		name: "paths of up to 4,000 bytes", promised: "ship", set: sure,
		harm: func(_ context.Context, r *rig) error { _, err := r.deepDir(3800); return err },
	},
	{
		name: "a path of 4,096 bytes", promised: "told; all others ship", set: sure, settles: minute,
		harm: func(ctx context.Context, r *rig) error {
			if _, err := r.deepDir(4090); err != nil {
				return err
			}
			if err := r.othersArrive(ctx); err != nil {
				return err
			}
			return lab.Until(ctx, 10*second, 100*pauseUnit, func() bool { return r.lines(0, "a path is too long") > 0 })
		},
		heal: func(_ context.Context, r *rig) error {
			return r.remove("keep-deep-*")
		},
	},
}
