package publisher

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fastsync/fastsync"
)

// What a CMS publishes through a link of the root is what the link stands for;
// nothing is reached through one that leads out, or while the root is away.
func TestLook(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "releases/5/img"), 0o755))
	must(os.Symlink("releases/5", filepath.Join(root, "current")))
	must(os.Symlink("/etc", filepath.Join(root, "out")))
	must(os.Symlink("loop", filepath.Join(root, "loop")))
	for _, c := range []struct {
		p     string
		given fastsync.Scope
		want  string
		scope fastsync.Scope
	}{
		{"current/img/a.jpg", "", "releases/5/img/a.jpg", fastsync.Entry},
		{"current/img", "", "releases/5/img", fastsync.Tree},
		{"current/img", fastsync.Listing, "releases/5/img", fastsync.Listing},
		{"current", "", "current", fastsync.Entry},
		{"gone/a.jpg", "", "gone/a.jpg", fastsync.Entry},
		{fastsync.Root, "", fastsync.Root, fastsync.Tree},
		{"out", "", "out", fastsync.Entry},
		{"out/passwd", "", "", ""},
		{"loop/x", "", "", ""},
	} {
		p, scope, err := Look(root, c.p, c.given)
		if p != c.want || scope != c.scope || (err != nil) != (c.want == "") {
			t.Errorf("Look(%q, %q) = %q, %q, %v; want %q, %q", c.p, c.given, p, scope, err, c.want, c.scope)
		}
	}
	if _, _, err := Look(filepath.Join(root, "unmounted"), "a", ""); err == nil {
		t.Error("a path is looked at without its root")
	}
}
