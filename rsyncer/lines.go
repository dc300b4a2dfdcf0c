package rsyncer

import "bytes"

// lines hands on each line that is written to it; one too long is dropped.
type lines struct {
	each func(string)
	rest []byte
	skip bool
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		l.rest = append(l.rest, p[:i]...)
		l.flush()
		p = p[i+1:]
	}
	if l.rest = append(l.rest, p...); len(l.rest) > maxLine {
		l.rest, l.skip = l.rest[:0], true
	}
	return n, nil
}

func (l *lines) flush() {
	if !l.skip && len(l.rest) > 0 {
		l.each(string(l.rest))
	}
	l.rest, l.skip = l.rest[:0], false
}
