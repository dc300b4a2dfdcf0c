// Package filter decides which paths are left out, by a subset of rsync's
// pattern rules, so that Go and rsync agree on each path.
//
// The patterns, first match wins, a path that none matches is kept:
//
//   - "name" without a slash matches the last part of a path at any depth.
//   - "/a/b" matches from the root only, "a/b" the tail of a path.
//   - "name/" matches directories only.
//   - "*", "?" and "[a-z]" never match a slash, "**" does. Matching is by byte.
//   - In a pattern with one of these, "\" takes the next byte literally.
//   - "- PATTERN" excludes, as does PATTERN; "+ PATTERN" keeps.
//
// What is below an excluded directory is excluded, whatever a later "+" says.
// Not supported, and refused by [New]: "***", "[[:class:]]" and the lone "!".
package filter

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Filter is an ordered list of patterns. A nil Filter excludes nothing.
// It does not change after New and may be used from many goroutines.
type Filter struct{ rules []rule }

type rule struct {
	text     string // without the "+ " or "- " prefix
	keep     bool
	dirOnly  bool
	anchored bool
	// span is how many trailing parts of a path the pattern is matched with;
	// 0 means the whole path, -1 each tail that begins after a slash.
	span int
	// slashed means that the path gets a leading slash, so that "**/a" matches "a".
	slashed bool
	tokens  []token
}

// New reads patterns as a --exclude flag takes them. It returns all faults joined.
func New(patterns []string) (*Filter, error) {
	f := &Filter{}
	var faults []error
	for _, p := range patterns {
		r, err := parse(p)
		if err != nil {
			faults = append(faults, fmt.Errorf("exclude pattern %q: %w", p, err))
			continue
		}
		f.rules = append(f.rules, r)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return f, nil
}

// Args are the same rules as arguments for rsync.
func (f *Filter) Args() []string {
	if f == nil {
		return nil
	}
	args := make([]string, 0, len(f.rules))
	for _, r := range f.rules {
		sign := "-"
		if r.keep {
			sign = "+"
		}
		args = append(args, "--filter="+sign+" "+r.text)
	}
	return args
}

// Excluded tells whether p, slash-separated and relative to the root, is left
// out, by itself or with a directory above it. dir says that p is a directory.
// The root itself, ".", is never excluded.
func (f *Filter) Excluded(p string, dir bool) bool {
	if f == nil || len(f.rules) == 0 || p == "." || p == "" {
		return false
	}
	for i := range len(p) {
		if p[i] == '/' && f.matches(p[:i], true) {
			return true
		}
	}
	return f.matches(p, dir)
}

// matches looks at one level alone: the first rule that matches decides.
func (f *Filter) matches(p string, dir bool) bool {
	for i := range f.rules {
		if f.rules[i].matches(p, dir) {
			return !f.rules[i].keep
		}
	}
	return false
}

func parse(p string) (rule, error) {
	r := rule{text: p}
	if rest, ok := strings.CutPrefix(p, "+ "); ok {
		r.text, r.keep = rest, true
	} else if rest, ok := strings.CutPrefix(p, "- "); ok {
		r.text = rest
	}
	body := r.text
	if strings.HasSuffix(body, "/") {
		body, r.dirOnly = body[:len(body)-1], true
	}
	switch {
	case body == "" || body == "/":
		return r, errors.New("matches nothing: write the name to leave out")
	case body == "!":
		return r, errors.New("\"!\" would clear rsync's list: leave the pattern out instead")
	case strings.IndexByte(body, 0) >= 0:
		return r, errors.New("contains NUL")
	case strings.Contains(body, "//"):
		return r, errors.New("has an empty part: write one slash")
	case strings.Contains(body, "***"):
		return r, errors.New("\"***\" is not supported: write the directory with a trailing slash")
	}
	double := strings.Contains(body, "**")
	r.slashed = strings.HasPrefix(body, "**")
	slashes := strings.Count(body, "/")
	body, r.anchored = strings.CutPrefix(body, "/")
	switch {
	case r.anchored || r.slashed:
		r.span = 0
	case double:
		r.span = -1
	default:
		r.span = slashes + 1
	}
	var err error
	r.tokens, err = compile(body)
	return r, err
}

func (r *rule) matches(p string, dir bool) bool {
	if r.dirOnly && !dir {
		return false
	}
	switch {
	case r.slashed:
		return match(r.tokens, "/"+p)
	case r.span == 0:
		return match(r.tokens, p)
	case r.span == 1:
		return match(r.tokens, path.Base(p))
	case r.span > 1:
		tail, ok := lastParts(p, r.span)
		return ok && match(r.tokens, tail)
	}
	for {
		if match(r.tokens, p) {
			return true
		}
		slash := strings.IndexByte(p, '/')
		if slash < 0 {
			return false
		}
		p = p[slash+1:]
	}
}

// lastParts is the tail of p with n parts; false if p has fewer.
func lastParts(p string, n int) (string, bool) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			if n--; n == 0 {
				return p[i+1:], true
			}
		}
	}
	return p, n == 1
}
