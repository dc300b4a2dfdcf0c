package publisher

import (
	"strings"
	"testing"

	"github.com/fastsync/fastsync"
)

func TestParseMessage(t *testing.T) {
	const root = "/www/htdocs"
	for _, tt := range []struct {
		text, paths, ref string
		scope            fastsync.Scope
		bad              bool
	}{
		{text: "/www/htdocs/img/test.jpg", paths: "img/test.jpg"},
		{text: "img/test.jpg", paths: "img/test.jpg"},
		{text: "img/", paths: "img"},
		{text: "/www/htdocs", paths: "."},
		{text: `{"path":"a.jpg","ref":"article-17"}`, paths: "a.jpg", ref: "article-17"},
		{text: `{"paths":["a","b"],"scope":"tree"}`, paths: "a|b", scope: fastsync.Tree},
		{text: `{"paths":["../x","b"]}`, paths: "b", bad: true},
		{text: "#odd;name * \n'", paths: "#odd;name * \n'"},
		{text: "bad\xffutf8", paths: "bad\xffutf8"},
		{text: "", bad: true},
		{text: strings.Repeat("a", 8193), bad: true},
		{text: "{\"path\":\"a\xff\"}", bad: true},
		{text: `{"path":"a"} x`, bad: true},
		{text: `{}`, bad: true},
		{text: `{"path":"a","scope":"all"}`, bad: true},
		{text: "/etc/passwd", bad: true},
		{text: "/www/htdocs2/a", bad: true},
		{text: "../a", bad: true},
		{text: "a/../b", bad: true},
		{text: "a//b", bad: true},
		{text: "a/./b", bad: true},
		{text: "a\x00b", bad: true},
		{text: "a//", bad: true},
	} {
		m, err := ParseMessage(root, tt.text)
		if (err != nil || len(m.Refused) > 0) != tt.bad {
			t.Errorf("ParseMessage(%q): error %v, refused %v, want one: %v", tt.text, err, m.Refused, tt.bad)
		}
		if got := strings.Join(m.Paths, "|"); got != tt.paths || m.Ref != tt.ref || m.Scope != tt.scope {
			t.Errorf("ParseMessage(%q) = %q ref %q scope %q, want %q ref %q scope %q", tt.text, got, m.Ref, m.Scope, tt.paths, tt.ref, tt.scope)
		}
	}
}

// Whatever a message says, the paths that come out of it stay below the root.
func FuzzParseMessage(f *testing.F) {
	for _, seed := range []string{"a", "/www/a", `{"path":"a"}`, `{"paths":["a","../b"],"ref":"r"}`, "a/../b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, _ := ParseMessage("/www", text)
		for _, p := range m.Paths {
			if err := fastsync.CheckPath(p); err != nil {
				t.Errorf("ParseMessage(%q) let %q through: %v", text, p, err)
			}
		}
	})
}
