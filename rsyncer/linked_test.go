package rsyncer

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastsync/fastsync"
)

func symlink(t testing.TB, to, dir, p string) {
	t.Helper()
	must(t, os.Symlink(to, filepath.Join(dir, p)))
}

// In a pull rsync follows a link above a path of its list, and makes it a directory
// at the target. A release that is switched by a link is the link's own change and
// the end of all paths that were below the directory before.
func TestPullLink(t *testing.T) { // fact 6
	remotes(t, true, func(t *testing.T, cfg Config, source, target string) {
		r := open(t, cfg)
		outside := t.TempDir()
		write(t, outside, "secret", "secret")
		write(t, source, "release/x", "x")
		write(t, source, "release/sub/y", "y")
		symlink(t, "release", source, "current")
		symlink(t, "current", source, "latest")
		symlink(t, "nowhere", source, "dangling")
		symlink(t, outside, source, "out")
		clean(t, ship(t, r, scoped("release", fastsync.Tree)))

		link := func(p string) {
			t.Helper()
			want, err := os.Readlink(filepath.Join(source, p))
			must(t, err)
			if got, err := os.Readlink(filepath.Join(target, p)); err != nil || got != want {
				t.Errorf("%s is no link to %s at the target: %v", p, want, err)
			}
		}
		for _, p := range []string{"current", "dangling", "out"} {
			write(t, target, p+"/x", "of the directory before")
		}
		write(t, source, "new", "new")
		clean(t, ship(t, r, entry("current/x", "current", "current/gone", "dangling/x", "dangling", "out", "out/secret", "latest/sub/y", "new")))
		for _, p := range []string{"current", "dangling", "out", "latest"} {
			link(p)
		}
		if read(target, "new") != "new" {
			t.Error("what is below no link did not ship")
		}

		// A path that failed before its directory became a link is tried again alone.
		clean(t, ship(t, r, entry("current/x", "current/gone", "dangling/gone", "out/secret", "latest/sub/y")))
		for _, p := range []string{"current", "dangling", "out", "latest"} {
			link(p)
		}
		write(t, source, "file", "file")
		write(t, target, "file/sub/sub/x", "of the directory before")
		clean(t, ship(t, r, scoped("file/sub/sub", fastsync.Tree)))
		clean(t, ship(t, r, scoped("file/sub", fastsync.Listing)))
		if read(target, "file") != "file" {
			t.Error("a file did not take its directory's place")
		}
		clean(t, ship(t, r, scoped("current", fastsync.Listing)))
		clean(t, ship(t, r, scoped("latest", fastsync.Tree)))
		link("current")
		link("latest")
		must(t, r.Settle(context.Background(), entry("out", "out/secret", "current", "current/x", "current/sub/y", "latest/sub", "dangling/x", "release/sub/y")))
		for _, p := range []string{"current", "out", "latest"} {
			want, err := os.Lstat(filepath.Join(source, p))
			must(t, err)
			if now, err := os.Lstat(filepath.Join(target, p)); err != nil || !now.ModTime().Equal(want.ModTime()) {
				t.Errorf("%s has the time of what it leads to: %v", p, err)
			}
		}
		must(t, os.Remove(filepath.Join(source, "dangling")))
		clean(t, ship(t, r, entry("dangling", "dangling/x")))
		clean(t, ship(t, r, entry("keep")))
		same(t, compare(t, r, nil))
	})
}

// New directories are new directories.
func TestPullNewDirectories(t *testing.T) {
	remotes(t, true, func(t *testing.T, cfg Config, source, target string) {
		r := open(t, cfg)
		write(t, source, "a/b/c/new\nline", "x")
		clean(t, ship(t, r, entry("a", "a/b", "a/b/c", "a/b/c/new\nline")))
		write(t, source, "d/e/f", "x")
		clean(t, ship(t, r, entry("d/e/f")))
		clean(t, ship(t, r, entry("keep")))
		same(t, compare(t, r, nil))
	})
}
