package watcher

import (
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	at   string // where it is, as an absolute path
	kind string // of its file system, as "ext4"
}

// parseMounts reads /proc/self/mountinfo. Lines of another form are left out.
func parseMounts(text string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 5 {
			continue
		}
		m := mount{at: unescape(words[4])}
		for i, word := range words[5:] { // optional fields end with a dash, the kind follows
			if word == "-" && 5+i+1 < len(words) {
				m.kind = words[5+i+1]
				break
			}
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape undoes the kernel's \040 for a space and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if n, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}

// below returns p relative to dir, "." for dir itself, and false where p is not below it.
func below(dir, p string) (string, bool) {
	if p == dir {
		return ".", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// beneath are the mounts below root, relative to it, without those left out.
func beneath(mounts []mount, root string, excluded func(string, bool) bool) []string {
	var found []string
	for _, m := range mounts {
		if p, ok := below(root, m.at); ok && p != "." && !excluded(p, true) {
			found = append(found, p)
		}
	}
	return found
}

// shared tells whether another host or a program serves a kind of file system:
// some of them take a mark, and then forget the handles that they gave.
func shared(kind string) bool {
	name, _, _ := strings.Cut(kind, ".")
	switch name {
	case "nfs", "nfs4", "fuse", "fuseblk", "cifs", "smb3", "9p", "virtiofs", "ceph", "afs", "vboxsf", "lustre":
		return true
	}
	return false
}

// kindAt is the kind of the file system that p is on.
func kindAt(mounts []mount, p string) string {
	kind, longest := "unknown", -1
	for _, m := range mounts {
		if _, ok := below(m.at, p); ok && len(m.at) >= longest { // the last of equals is on top
			kind, longest = m.kind, len(m.at)
		}
	}
	return kind
}
