package rsyncer

import (
	"path"
	"slices"
	"strings"
)

// unescape turns rsync's \#ooo back into the byte. Anything else stays: rsync
// escapes a backslash only where it would read as such an escape.
func unescape(s string) string {
	if !strings.Contains(s, `\#`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := octal(s[i:]); ok {
			b.WriteByte(c)
			i += 4
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) (byte, bool) {
	if len(s) < 5 || s[0] != '\\' || s[1] != '#' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s[2:5]) {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n*8 + int(c-'0')
	}
	return byte(n), n < 256
}

// item is one line of rsync's about a path.
type item struct {
	path     string
	gone     bool // only the target has it
	dir      bool
	made     bool // the target does not have it
	timeOnly bool // a directory of which only the time differs
}

// parseItem reads a line of the format "%i %n"; false for anything else.
func parseItem(line string) (item, bool) {
	rest, ok := strings.CutPrefix(line, format)
	if !ok || len(rest) < 13 { // eleven letters, a space, a name
		return item{}, false
	}
	what, name := rest[:11], unescape(rest[12:])
	it := item{gone: strings.HasPrefix(what, "*deleting"), made: strings.HasSuffix(what, "+++++++++")}
	if !it.gone && strings.Trim(what[2:], ". ") == "" && what[0] == '.' {
		return item{}, false // nothing differs
	}
	it.path, it.dir = strings.CutSuffix(name, "/")
	it.dir = it.dir || what[1] == 'd'
	it.timeOnly = what == ".d..t......"
	return it, it.path != ""
}

// names tells whether a message of rsync's is about path, or about the temporary
// file that path has while it is received; in a run over what is in directories also
// whether it is about something below.
func (r *Rsyncer) names(note, path string, k kind) bool {
	if !strings.Contains(note, path[strings.LastIndexByte(path, '/')+1:]) { // as most: runs are long
		return false
	}
	rest, ok := r.below(note)
	if !ok {
		return mentions(note, path)
	}
	if after, ok := strings.CutPrefix(rest, path); ok && (strings.HasPrefix(after, `"`) || k != entries && strings.HasPrefix(after, "/")) {
		return true
	}
	after, ok := strings.CutPrefix(rest, temporary(path))
	return ok && strings.IndexByte(after, '"') == 6 // else it is of another one, as ".b.jpg.AbCdEf" is not of b
}

// unread is the path that the sender says it cannot read, "" for any other message.
func (r *Rsyncer) unread(note string) string {
	rest, ok := r.below(note)
	end := strings.LastIndexByte(rest, '"')
	if !ok || end < 0 || !strings.HasPrefix(note, "rsync: [sender] ") {
		return ""
	}
	return rest[:end]
}

// below is a message of rsync's from where it has a path below the root or the
// target's folder, without these, up to a quote; not ok if it has none.
func (r *Rsyncer) below(note string) (rest string, ok bool) {
	if !strings.Contains(note, `"`) { // "could not make way for new regular file: d/f"
		_, rest, ok = strings.Cut(note, ": ")
		return rest + `"`, ok
	}
	ends := []string{r.source, r.target}
	if strings.Contains(note, "rsync: [receiver] ") || strings.Contains(note, "rsync: [generator] ") {
		slices.Reverse(ends) // one folder's name may begin with the other's
	}
	for _, end := range ends {
		folder, known := quotedAs(end)
		_, rest, ok = strings.Cut(note, `"`+folder)
		if known && ok && (folder != "" || strings.Contains(rest, `" (in `)) { // the module itself
			return strings.TrimPrefix(rest, "/"), true
		}
	}
	return "", false
}

// quotedAs is how rsync's messages begin the paths of a source or target: in full,
// or from a daemon's module on. It is not known of a folder in somebody's home.
func quotedAs(end string) (folder string, known bool) {
	rest := end
	if strings.HasPrefix(end, "[") { // an IPv6 address has colons of its own
		_, rest, _ = strings.Cut(end, "]")
	}
	switch url, isURL := strings.CutPrefix(end, "rsync://"); {
	case isURL:
		_, rest, _ = strings.Cut(url, "/")
	case daemon(end):
		_, rest, _ = strings.Cut(rest, "::")
	case remote(end):
		_, folder, known = strings.Cut(rest, ":/")
		return strings.TrimSuffix(path.Clean("/"+folder), "/") + "/", known
	default:
		return end, true
	}
	if _, folder, _ = strings.Cut(rest, "/"); folder != "" {
		folder = path.Clean("/"+folder) + "/"
	}
	return folder, true
}

// temporary is how the name of the file begins that path is received into.
func temporary(path string) string {
	base := path[strings.LastIndexByte(path, '/')+1:]
	return path[:len(path)-len(base)] + "." + base + "."
}

// mentions tells whether a message has a path, or the temporary file's, anywhere.
func mentions(message, path string) bool {
	for at := 0; ; {
		i := strings.Index(message[at:], path)
		if i < 0 {
			break
		}
		at += i
		end := at + len(path)
		if at > 0 && strings.IndexByte(`/" `, message[at-1]) >= 0 &&
			(end == len(message) || strings.IndexByte(`"/`, message[end]) >= 0 || strings.HasPrefix(message[end:], " (")) {
			return true
		}
		at++
	}
	temp := temporary(path)
	return strings.Contains(message, "/"+temp) || strings.Contains(message, `"`+temp)
}
