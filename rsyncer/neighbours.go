package rsyncer

import (
	"io/fs"
	"sync"
	"time"
)

// neighbours knows in which directories the runs of the live lane have work, so
// that none lists a directory, with all that is in it, in which another one ships
// or deletes: of two runs that have one file, the one that read the older version
// may be the last to put it there.
type neighbours struct {
	mu     sync.Mutex
	listed map[string]listedDir
	named  map[string]int // Syncs that have paths in the directory
}

// listedDir is a directory that ships with all that is in it.
type listedDir struct {
	by *neighbour
	at time.Time // what is made later is not in it
	// doubtful is what changed just before, and is somebody else's.
	doubtful map[string]bool
}

// neighbour is one Sync among them; nil for one that heeds nobody.
type neighbour struct {
	all    *neighbours
	listed []string
	named  map[string]bool
}

// lately is how long before a listing a file's change may still be on its way here.
const lately = 10 * time.Second

func (n *neighbours) join() *neighbour {
	return &neighbour{all: n, named: map[string]bool{}}
}

// name tells whether this Sync may ship p in a directory, or with nil delete it:
// nobody else lists it there. What is new since need not wait.
func (n *neighbour) name(dir, p string, info fs.FileInfo) bool {
	if n == nil {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if l, ok := n.all.listed[dir]; ok && l.by != n && (info == nil || l.doubtful[p] || !changeTime(info).After(l.at.Add(-tick))) {
		return false
	}
	if !n.named[dir] {
		n.named[dir] = true
		n.all.named[dir]++
	}
	return true
}

// list tells whether this Sync, which has paths in a directory, may list it:
// nobody else has any there.
func (n *neighbour) list(dir string, doubtful map[string]bool) bool {
	if n == nil {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if n.all.named[dir] > 1 {
		return false
	}
	n.listed = append(n.listed, dir)
	n.all.listed[dir] = listedDir{n, time.Now(), doubtful}
	return true
}

// begun gives what is listed so far, for ended once that has shipped.
func (n *neighbour) begun() (dirs []string) {
	if n == nil {
		return nil
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	dirs, n.listed = n.listed, nil
	return dirs
}

func (n *neighbour) ended(dirs []string) {
	if n == nil {
		return
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	for _, dir := range dirs {
		delete(n.all.listed, dir)
	}
}

// leave ends the Sync.
func (n *neighbour) leave() {
	n.ended(n.begun())
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	for dir := range n.named {
		if n.all.named[dir]--; n.all.named[dir] == 0 {
			delete(n.all.named, dir)
		}
	}
}
