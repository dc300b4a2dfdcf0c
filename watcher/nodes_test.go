package watcher

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The set of directories is that of a plain map, whatever is done to it.
func TestNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dirs := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,2}(/[ab]{1,2}){0,3}`), 1, 200).Draw(t, "dirs")
		n, want := newNodes(), map[string]bool{}
		n.heads = n.heads[:1] // so that it grows soon
		for i, dir := range dirs {
			if parent := path.Dir(dir); i%3 != 2 && (parent == "." || want[parent]) {
				n.add(dir)
				want[dir] = true
				continue
			}
			var gone []string
			n.remove(dir, func(d string) { gone = append(gone, d) })
			var left []string
			for d := range maps.Keys(want) {
				if d == dir || strings.HasPrefix(d, dir+"/") {
					left = append(left, d)
					delete(want, d)
				}
			}
			slices.Sort(gone)
			slices.Sort(left)
			if !slices.Equal(gone, left) {
				t.Fatalf("without %s %v are gone, want %v", dir, gone, left)
			}
		}
		for _, dir := range dirs {
			if n.has(dir) != want[dir] {
				t.Fatalf("has(%s) = %v", dir, n.has(dir))
			}
			below := map[string]struct{}{}
			for d := range want {
				if want[dir] && path.Dir(d) == dir {
					below[path.Base(d)] = struct{}{}
				}
			}
			if got := n.below(dir); !maps.Equal(got, below) {
				t.Fatalf("below %s are %v, want %v", dir, got, below)
			}
		}
		if n.count != len(want) {
			t.Fatalf("%d are counted, want %d", n.count, len(want))
		}
	})
}

// A directory that came before its parent goes with it.
func TestNodeBeforeItsParent(t *testing.T) {
	n := newNodes()
	for _, dir := range []string{"a/b", "a", "a/b", "a/b"} {
		n.add(dir)
	}
	n.remove("a", func(string) {})
	if n.count != 0 || n.has("a/b") {
		t.Errorf("%d are left", n.count)
	}
}
