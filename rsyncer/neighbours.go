package rsyncer

import (
	"io/fs"
	"sync"
	"time"
)

// neighbours knows which directories runs of the live lane list, with all that is
// in them, so that no other one ships or deletes there meanwhile: of two runs that
// have one file, the one that read the older version may be the last to put it
// there, and what one deletes the other may bring back.
type neighbours struct {
	mu     sync.Mutex
	listed map[string]listedDir
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
}

// lately is how long before a listing a file's change may still be on its way here.
const lately = 10 * time.Second

// free tells whether this Sync may ship p in a directory, or with nil delete it:
// nobody else lists it there. What is new since need not wait.
func (n *neighbour) free(dir, p string, info fs.FileInfo) bool {
	if n == nil {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	l, ok := n.all.listed[dir]
	return !ok || l.by == n || info != nil && !l.doubtful[p] && changeTime(info).After(l.at.Add(-tick))
}

// list notes that this Sync lists a directory, unless another one does.
func (n *neighbour) list(dir string, doubtful map[string]bool) bool {
	if n == nil {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if l, ok := n.all.listed[dir]; ok && l.by != n {
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
