package watcher

import (
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /srv/my\040media rw - tmpfs none rw
31 30 0:31 /sub /srv/my\040media/a\134b rw master:2 shared:3 - overlay over rw
32 22 0:32 / /srv/my\040mediaplus rw - nfs4 host:/x rw
33 22 0:33 / /srv rw - xfs /dev/vdb rw
garbage
`

func TestMounts(t *testing.T) {
	mounts := parseMounts(mountinfo)
	none := func(string, bool) bool { return false }
	if got := beneath(mounts, "/srv/my media", none); !slices.Equal(got, []string{`a\b`}) {
		t.Errorf("beneath: %q", got)
	}
	if got := beneath(mounts, "/srv/my media", func(p string, dir bool) bool { return dir && p == `a\b` }); got != nil {
		t.Errorf("beneath finds what is left out: %q", got)
	}
	if got := beneath(mounts, "/", none); len(got) != 4 || got[0] != "srv/my media" {
		t.Errorf("beneath /: %q", got)
	}
	for p, want := range map[string]string{"/": "ext4", "/srv": "xfs", "/srv/my media": "tmpfs", `/srv/my media/a\b/c`: "overlay", "/srv/my mediaplus": "nfs4", "/etc": "ext4"} {
		if got := kindAt(mounts, p); got != want {
			t.Errorf("kindAt(%q) = %s, want %s", p, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add(`1 2 3 4 \0 - `)
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(parseMounts(text)); n > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts in %d lines", n, strings.Count(text, "\n")+1)
		}
	})
}

// Whether or not the kernel takes a mark there.
func TestFileSystemsThatOthersServe(t *testing.T) {
	mounts := parseMounts("36 35 0:30 / /srv rw - nfs4 host:/srv rw\n37 35 0:31 / /home rw - fuse.sshfs host: rw\n38 35 8:1 / / rw - ext4 /dev/sda1 rw\n39 38 0:40 / /srv/own rw - xfs /dev/sdb1 rw\n")
	for p, want := range map[string]bool{"/srv": true, "/srv/media": true, "/home/a": true, "/var/www": false, "/srv/own/media": false} {
		if kind := kindAt(mounts, p); shared(kind) != want {
			t.Errorf("%s is on %s, shared %v", p, kind, shared(kind))
		}
	}
}
