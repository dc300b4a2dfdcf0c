package rsyncer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// Whatever path is asked for, what reaches rsync's list lies below the root by
// real directories only: rsync would follow a symbolic link in between.
func FuzzGate(f *testing.F) {
	cfg := setup(f)
	outside := f.TempDir()
	write(f, outside, "secret", "secret")
	write(f, outside, "sub/secret", "secret")
	for _, p := range []string{"a/b/c", "a/file", "odd\n#name/x"} {
		write(f, cfg.Source, p, p)
	}
	for link, to := range map[string]string{
		"out": outside, "a/up": "..", "a/out": outside + "/sub", "self": "self", "in": "a", "file": "a/file", "a/b/root": "/",
	} {
		must(f, os.Symlink(to, filepath.Join(cfg.Source, link)))
	}
	cfg.Delete = true
	r := open(f, cfg)
	for _, p := range []string{"a/b/c", "out/secret", "a/up/keep", "in/file", "file/x", "a/out/../secret", "../x", ".", "a/b/root/etc/passwd", "odd\n#name/x", "gone/x"} {
		f.Add(p, "entry")
		f.Add(p, "tree")
	}
	f.Fuzz(func(t *testing.T, p, scope string) {
		var out fastsync.Outcome
		to := sorter{r: r, lane: fastsync.Bulk, remove: true, out: &out, begun: time.Now()}
		_, err := to.sort([]fastsync.Change{{Path: p, Scope: fastsync.Scope(scope)}})
		must(t, err)
		for _, g := range to.to {
			for i := 0; g != nil && i < len(g.jobs); i++ {
				at := g.jobs[i].path
				if strings.HasPrefix(string(list(g.kind, g.jobs[i:i+1])), "//") || at != "." && !filepath.IsLocal(at) {
					t.Fatalf("%q of %q leaves the root by its name", at, p)
				}
				for dir := filepath.Dir(at); dir != "."; dir = filepath.Dir(dir) {
					if info, err := os.Lstat(filepath.Join(cfg.Source, dir)); err == nil && info.Mode()&os.ModeSymlink != 0 {
						t.Fatalf("%q is shipped through the link %q", at, dir)
					}
				}
			}
		}
	})
}
