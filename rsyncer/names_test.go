package rsyncer

import (
	"path"
	"slices"
	"testing"

	"github.com/fastsync/fastsync"
)

// A part of another path, or of the root's own, is no path that has failed.
func TestOnlyWhatAMessageNamesHasFailed(t *testing.T) {
	const sender, receiver = `rsync: [sender] opendir "/srv/media/2025/thumbs" failed: Permission denied (13)`, `rsync: [receiver] mkstemp `
	for _, c := range []struct {
		target, note string
		kind         kind
		want         []string
	}{
		{"/backup/", sender, trees, []string{"2025", "2025/thumbs"}},
		{"/backup/", sender, entries, []string{"2025/thumbs"}},
		{"/backup/", receiver + `"/backup/2025/.b.jpg.AbCdEf" failed: No space left on device (28)`, entries, []string{"2025/b.jpg"}},
		{"/backup/", `sync to web1: no room (` + receiver + `"/backup/srv/.b.jpg.AbCdEf" failed: No space left on device (28))`, trees, []string{"srv"}},
		{"/backup/", `file has vanished: "/srv/media/media"`, trees, []string{"media"}},
		{"web1:/srv/", receiver + `"/srv/media/.b.jpg.AbCdEf" failed: Permission denied (13)`, trees, []string{"media"}},
		{"[::1]:/srv//media", receiver + `"/srv/media/.b.jpg.AbCdEf" failed: Permission denied (13)`, entries, []string{"b.jpg"}},
		{"web1::mod/", receiver + `"thumbs/.b.jpg.AbCdEf" (in mod) failed: Permission denied (13)`, trees, []string{"thumbs"}},
		{"web1::mod/", receiver + `"/thumbs/.b.jpg.AbCdEf" (in mod) failed: Permission denied (13)`, trees, []string{"thumbs"}}, // with chroot
		{"[::1]::mod/2025/", receiver + `"/2025/.b.jpg.AbCdEf" (in mod) failed: Permission denied (13)`, trees, []string{"b.jpg"}},
		{"rsync://web1/mod/2025/", receiver + `"/2025/thumbs/.b.jpg.AbCdEf" (in mod) failed: Permission denied (13)`, trees, []string{"thumbs"}},
		{"/backup/", "could not make way for new regular file: 2025/thumbs", entries, []string{"2025/thumbs"}},
	} {
		r := &Rsyncer{source: "/srv/media/", target: c.target}
		var got []string
		for _, p := range []string{"2025", "2025/b", "2025/b.jpg", "2025/thumbs", "b.jpg", "media", "srv", "thumbs"} {
			if r.names(c.note, p, c.kind) {
				got = append(got, p)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("to %s, %v: %s\nnames %q, want %q", c.target, c.kind, c.note, got, c.want)
		}
	}
}

func TestNoOtherPathIsListedAsFailed(t *testing.T) {
	cfg := strangers(t)
	top := path.Base(cfg.Source)
	for _, p := range []string{"2025/thumbs/f", "thumbs/f", top + "/f"} {
		write(t, cfg.Source, p, "x")
	}
	shut(t, cfg, "2025/thumbs", 0)
	r := open(t, cfg)
	changes := slices.Concat(scoped("2025", fastsync.Tree), scoped("thumbs", fastsync.Tree), scoped(top, fastsync.Tree))
	out := shipBulk(t, r, changes)
	if len(out.Failed) != 1 || out.Failed[0].Path != "2025" || out.Shipped != 2 {
		t.Errorf("%+v", out)
	}
}

// What does not fit keeps no file away that is only called the same.
func TestAFileOfTheSameNameShipsWhereAnotherDoesNotFit(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "b.jpg", "x")
	write(t, cfg.Source, "d/b.jpg", "x")
	cfg.RsyncPath = script(t, `list=$(mktemp); cat >$list
if grep -q d/b.jpg $list; then echo 'rsync: [receiver] mkstemp "`+cfg.Target+`/d/.b.jpg.AbCdEf" failed: No space left on device (28)' >&2; exit 11; fi
rsync "$@" <$list`)
	r := open(t, cfg)
	out := ship(t, r, entry("b.jpg", "d/b.jpg"))
	if len(out.Failed) != 1 || out.Failed[0].Path != "d/b.jpg" || read(cfg.Target, "b.jpg") != "x" {
		t.Errorf("%+v", out)
	}
}
