package rsyncer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sshCommand is the words that connect to the other side, or none where that is
// not done by ssh, or by one that the operator shares already.
func (r *Rsyncer) sshCommand() []string {
	end := r.farEnd()
	words, ok := split(r.shell(connectsIn))
	if !ok || !remote(end) || r.direct() || filepath.Base(words[0]) != "ssh" {
		return nil
	}
	if slices.ContainsFunc(words[1:], controls) {
		return nil
	}
	user, host := hostOf(end)
	if user != "" {
		words = append(words, "-l", user)
	}
	return append(words, "--", host)
}

// controls tells whether a word of ssh's is about sharing: an option by its name,
// or -M or -S, also behind other flags or with its value right after it.
func controls(word string) bool {
	if strings.Contains(strings.ToLower(word), "control") {
		return true
	}
	flags, ok := strings.CutPrefix(word, "-")
	if !ok {
		return false
	}
	for _, c := range flags {
		switch {
		case c == 'M' || c == 'S':
			return true
		case strings.ContainsRune("BbcDEeFIiJLlmOoPpQRWw", c): // the rest is its value
			return false
		}
	}
	return false
}

// hostOf takes [user@]host:path or host::module apart; an IPv6 address stands
// in brackets.
func hostOf(end string) (user, host string) {
	if at := strings.LastIndexByte(end[:strings.IndexByte(end, ':')+1], '@'); at >= 0 {
		user, end = end[:at], end[at+1:]
	}
	if strings.HasPrefix(end, "[") {
		host, _, _ = strings.Cut(end[1:], "]")
		return user, host
	}
	host, _, _ = strings.Cut(end, ":")
	return user, host
}

// split takes a remote shell apart as rsync does: words, with quotes around
// what has spaces. It says no where a quote has no end.
func split(shell string) (words []string, ok bool) {
	var word []byte
	quote, in := byte(0), false
	for i := range len(shell) {
		switch c := shell[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && c == ' ':
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		default:
			word, in = append(word, c), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words, quote == 0 && len(words) > 0
}

// longestSocket is what the kernel takes as a socket's path, less what ssh adds
// while it makes one.
const longestSocket = 107 - 18

// controlDir makes the folder of the sockets; none where nothing is to be shared.
func (r *Rsyncer) controlDir() (string, error) {
	if len(r.shares) == 0 {
		return "", nil
	}
	dir, err := tempDir("ssh")
	if err != nil {
		return "", err
	}
	if len(dir)+len("/live") > longestSocket || strings.ContainsAny(dir, " '\"%$\\") {
		_ = os.Remove(dir)
		return "", fmt.Errorf("%s is too long or odd for a socket: set TMPDIR to another folder", filepath.Dir(dir))
	}
	return dir, nil
}
