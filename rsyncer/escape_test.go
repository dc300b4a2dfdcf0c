package rsyncer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRsyncEscapes makes a file and wants its name back from what rsync prints.
func FuzzRsyncEscapes(f *testing.F) {
	if _, err := exec.LookPath("rsync"); err != nil {
		f.Skip(err)
	}
	for _, s := range []string{"a\nb", `\#012`, `\\#012`, "\xff", `\#`, "#a", ";a", " a ", "\x7f", "a\tb", "é", `\#9`, `\#777`, "-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Skip(err)
		}
		cmd := exec.Command("rsync", "-n", "-r", "--out-format="+format+"%i %n", "--8-bit-output", "--", dir+"/", filepath.Join(dir, "nowhere")+"/")
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if it, ok := parseItem(strings.TrimSuffix(line, "\n")); ok && it.path == name {
				return
			}
		}
		t.Errorf("%q is not in %q", name, out)
	})
}
