package filter

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExcluded(t *testing.T) {
	for _, c := range []struct {
		patterns string // joined with "|"
		path     string
		dir      bool
		want     bool
	}{
		{"*.tmp", "a/b.tmp", false, true},
		{"*.tmp", "a/b.tmpx", false, false},
		{"/cache", "cache/x/y", false, true},
		{"/cache", "a/cache", false, false},
		{"cache/", "cache", false, false},
		{"cache/", "a/cache", true, true},
		{"cache/", "a/cache/b", false, true},
		{"a/b", "x/a/b", false, true},
		{"a/b", "xa/b", false, false},
		{"a/**/b", "a/x/y/b", false, true},
		{"a/**/b", "a/b", false, false},
		{"**/b", "b", false, true},
		{"/a*", "a/b", false, true},
		{"/a*c", "a/c", false, false},
		{"+ keep|- *", "keep", false, false},
		{"+ keep|- *", "other", false, true},
		{"+ a/keep|- a/", "a/keep", false, true},
		{"[!a-c]", "b", false, false},
		{"[!a-c]", "d", false, true},
		{"*", ".", true, false},
	} {
		f, err := New(strings.Split(c.patterns, "|"))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Excluded(c.path, c.dir); got != c.want {
			t.Errorf("%s: Excluded(%q, %v) = %v", c.patterns, c.path, c.dir, got)
		}
	}
	if (*Filter)(nil).Excluded("a", false) || (*Filter)(nil).Args() != nil {
		t.Error("a nil filter excludes")
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New([]string{"", "ok", "[a", "a//b", "x***", "[[:alpha:]]", "*\\", "!", "/"})
	if err == nil {
		t.Fatal("no error")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 8 {
		t.Errorf("want 8 faults, got %d:\n%v", len(lines), err)
	}
}

// tree has every short path over a small alphabet, directories and files.
var tree = []string{
	"a/", "a/b/", "a/b/c", "a/b/ab", "a/c", "a/ac", "b/", "b/a/", "b/a/b/", "b/a/b/c", "b/a/c/", "b/a/c/a", "b/c",
	"c", "ab", "abc", "ba/", "ba/a", "ba/-]", "-", "]", "a\\b", "*",
}

func makeTree(t testing.TB) string {
	root := t.TempDir()
	for _, p := range tree {
		full := filepath.Join(root, p)
		if strings.HasSuffix(p, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(full, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func needRsync(t testing.TB) {
	if _, err := exec.LookPath("rsync"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("rsync is missing")
		}
		t.Skip("rsync is missing")
	}
}

// agree compares the filter with what rsync would ship of the tree.
func agree(t interface {
	Helper()
	Fatalf(string, ...any)
}, root string, patterns []string) {
	t.Helper()
	f, err := New(patterns)
	if err != nil {
		return
	}
	args := append([]string{"-n", "-r", "--out-format=%n"}, f.Args()...)
	args = append(args, "--", root+"/", filepath.Join(root, "..", "nowhere")+"/")
	out, err := exec.Command("rsync", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("rsync %q: %v\n%s", args, err, out)
	}
	shipped := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		shipped[strings.TrimSuffix(line, "\n")] = true
	}
	for _, p := range tree {
		name, dir := strings.CutSuffix(p, "/")
		if got := f.Excluded(name, dir); got == shipped[p] {
			t.Fatalf("patterns %q path %q: Excluded = %v, rsync ships it: %v", patterns, p, got, shipped[p])
		}
	}
}

func TestAgreesWithRsync(t *testing.T) {
	needRsync(t)
	root := makeTree(t)
	atom := rapid.SampledFrom([]string{"a", "b", "c", "ab", "*", "**", "?", "/", "[ab]", "[!a]", "[a-]", "[]-]", "\\a", "\\*", "-"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "", "- ", "+ "}).Draw(t, "sign") +
			rapid.SampledFrom([]string{"", "/"}).Draw(t, "anchor") +
			strings.Join(rapid.SliceOfN(atom, 1, 5).Draw(t, "atoms"), "") +
			rapid.SampledFrom([]string{"", "/"}).Draw(t, "end")
	})
	rapid.Check(t, func(rt *rapid.T) {
		agree(rt, root, rapid.SliceOfN(pattern, 1, 4).Draw(rt, "patterns"))
	})
}

func FuzzAgreesWithRsync(f *testing.F) {
	needRsync(f)
	for _, s := range []string{"*.tmp", "/a/**", "+ a/b\n- *", "[!a-c]*/", "**/c", "a\\b", " a", "+ ", "- - a"} {
		f.Add(s)
	}
	root := makeTree(f)
	f.Fuzz(func(t *testing.T, lines string) {
		if len(lines) > 200 {
			return
		}
		agree(t, root, strings.Split(lines, "\n"))
	})
}
