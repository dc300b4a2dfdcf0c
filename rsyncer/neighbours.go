package rsyncer

import "sync"

// neighbours knows in which directories the runs of the live lane have work, so
// that none lists a directory, with all that is in it, in which another one ships
// or deletes: of two runs that have one file, the one that read the older version
// may be the last to put it there.
type neighbours struct {
	mu     sync.Mutex
	listed map[string]*neighbour
	named  map[string]int // Syncs that have paths in the directory
}

// neighbour is one Sync among them; nil for one that heeds nobody.
type neighbour struct {
	all    *neighbours
	listed map[string]bool
	named  map[string]bool
}

func (n *neighbours) join() *neighbour {
	return &neighbour{all: n, listed: map[string]bool{}, named: map[string]bool{}}
}

// name tells whether this Sync may have a path in a directory: nobody else lists it.
func (n *neighbour) name(dir string) bool {
	if n == nil || n.named[dir] {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if by := n.all.listed[dir]; by != nil && by != n {
		return false
	}
	n.named[dir] = true
	n.all.named[dir]++
	return true
}

// list tells whether this Sync, which has paths in a directory, may list it:
// nobody else has any there.
func (n *neighbour) list(dir string) bool {
	if n == nil {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if n.all.named[dir] > 1 {
		return false
	}
	n.listed[dir] = true
	n.all.listed[dir] = n
	return true
}

// leave ends the Sync.
func (n *neighbour) leave() {
	if n == nil {
		return
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	for dir := range n.listed {
		delete(n.all.listed, dir)
	}
	for dir := range n.named {
		if n.all.named[dir]--; n.all.named[dir] == 0 {
			delete(n.all.named, dir)
		}
	}
}
