package filter

import (
	"errors"
	"strings"
)

// token is one step of a pattern: a set of bytes, or a star.
type token struct {
	star, cross bool // star: any run of bytes; cross: slashes too
	set         [256]bool
}

func compile(body string) ([]token, error) {
	var tokens []token
	wild := strings.ContainsAny(body, "*?[")
	for i := 0; i < len(body); i++ {
		var t token
		switch c := body[i]; {
		case c == '*':
			t.star = true
			if i+1 < len(body) && body[i+1] == '*' {
				t.cross = true
				i++
			}
		case c == '?':
			for b := range t.set {
				t.set[b] = b != '/'
			}
		case c == '[':
			end, err := class(body, i, &t.set)
			if err != nil {
				return nil, err
			}
			i = end
		case c == '\\' && wild: // rsync takes it literally where nothing is to be escaped
			if i++; i == len(body) {
				return nil, errors.New("ends with a backslash: write \\\\ for the byte itself")
			}
			t.set[body[i]] = true
		default:
			t.set[c] = true
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// class reads the bracket expression at body[at] into set and returns where it ends.
func class(body string, at int, set *[256]bool) (int, error) {
	i, negated, previous := at+1, false, -1
	if i < len(body) && (body[i] == '!' || body[i] == '^') {
		negated = true
		i++
	}
	for first := true; ; first = false {
		if i >= len(body) {
			return 0, errors.New("has a \"[\" without its \"]\": write \\[ for the byte itself")
		}
		c := body[i]
		switch {
		case c == ']' && !first:
			for b := range set {
				set[b] = set[b] != negated && b != '/'
			}
			return i, nil
		case c == '[' && i+1 < len(body) && body[i+1] == ':':
			return 0, errors.New("[[:class:]] is not supported: write the range")
		case c == '-' && previous >= 0 && i+1 < len(body) && body[i+1] != ']':
			i++
			if body[i] == '\\' {
				i++
			}
			for b := previous; i < len(body) && b <= int(body[i]); b++ {
				set[b] = true
			}
			previous = -1
		default:
			if c == '\\' {
				if i++; i == len(body) {
					continue
				}
			}
			set[body[i]], previous = true, int(body[i])
		}
		i++
	}
}

// match follows all ways through the pattern at once: its time is the product
// of both lengths, whatever the pattern.
func match(tokens []token, s string) bool {
	now, next := make([]bool, len(tokens)+1), make([]bool, len(tokens)+1)
	now[0] = true
	skipStars(tokens, now)
	for i := range len(s) {
		clear(next)
		alive := false
		for at, on := range now[:len(tokens)] {
			if !on {
				continue
			}
			switch t := &tokens[at]; {
			case t.star && (t.cross || s[i] != '/'):
				next[at], alive = true, true
			case !t.star && t.set[s[i]]:
				next[at+1], alive = true, true
			}
		}
		if !alive {
			return false
		}
		skipStars(tokens, next)
		now, next = next, now
	}
	return now[len(tokens)]
}

// skipStars marks what is reachable by letting a star match nothing.
func skipStars(tokens []token, on []bool) {
	for at := range tokens {
		if on[at] && tokens[at].star {
			on[at+1] = true
		}
	}
}
