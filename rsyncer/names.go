package rsyncer

import "strings"

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

// names tells whether a message of rsync's is about path, or about the
// temporary file that path has while it is received.
func names(message, path string) bool {
	base := path[strings.LastIndexByte(path, '/')+1:]
	temp := path[:len(path)-len(base)] + "." + base + "."
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
	return strings.Contains(message, "/"+temp) || strings.Contains(message, `"`+temp)
}
