package rsyncer

import (
	"io/fs"
	"slices"
	"sync"
	"time"
)

// neighbours knows what the Syncs under way have in hand, so that no two of them
// have the same: of two runs that ship one file, the one that read the older version
// may be the last to put it there, and what one deletes the other may bring back.
type neighbours struct {
	mu     sync.Mutex
	active []*neighbour
	// listed are the directories that runs of the live lane list, with all that is in them.
	listed map[string]listedDir
	// hands has what ships or deletes a path over the live lane because of its change.
	hands map[string]*inHand
}

func newNeighbours() *neighbours {
	return &neighbours{listed: map[string]listedDir{}, hands: map[string]*inHand{}}
}

// listedDir is a directory that ships with all that is in it.
type listedDir struct {
	in *inHand
	at time.Time // what is made later is not in it
	// doubtful is what changed just before, or is a link, and is somebody else's.
	doubtful map[string]bool
}

// neighbour is one Sync among them; nil for one that nobody heeds and that heeds nobody.
type neighbour struct {
	all    *neighbours
	live   bool // bulk takes its time, and nobody waits for it
	held   *inHand
	flying flying
}

// inHand is what a part of a Sync has in hand. The next part may have the same, and
// has it alone from then on.
type inHand struct {
	by            *neighbour
	listed, paths []string
}

// lately is how long before a listing a file's change may still be on its way here.
const lately = 10 * time.Second

func (a *neighbours) enter(live bool) *neighbour {
	n := &neighbour{all: a, live: live}
	n.held = &inHand{by: n}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = append(a.active, n)
	return n
}

func (n *neighbour) leave() {
	if n == nil {
		return
	}
	n.ended(n.begun())
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	n.all.active = slices.DeleteFunc(n.all.active, func(o *neighbour) bool { return o == n })
}

// free tells whether this Sync may ship p in a directory, or with nil delete it:
// nobody else lists it there. What is new since need not wait.
func (n *neighbour) free(dir, p string, info fs.FileInfo) bool {
	if n == nil || !n.live {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	l, ok := n.all.listed[dir]
	return !ok || l.in.by == n || info != nil && !l.doubtful[p] && changeTime(info).After(l.at.Add(-tick))
}

// take notes that this Sync ships or deletes p because of its change, unless another
// one's rsync has just read it on its way through a directory.
func (n *neighbour) take(p string) bool {
	if n == nil || !n.live {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	for _, other := range n.all.active {
		if other != n && other.flying.has(p, time.Now()) {
			return false
		}
	}
	n.all.hands[p] = n.held
	n.held.paths = append(n.held.paths, p)
	return true
}

// opens tells whether this Sync's rsync may read p: nobody else has it in hand.
func (n *neighbour) opens(p string) bool {
	if n == nil {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	h := n.all.hands[p]
	if h == nil { // else nobody else takes it
		n.flying.reads(p, time.Now())
	}
	return h == nil || h.by == n
}

// closes follows once the rsync has read what it opened last.
func (n *neighbour) closes() {
	if n == nil {
		return
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	n.flying.lands(time.Now())
}

// list notes that this Sync lists a directory, unless another one does.
func (n *neighbour) list(dir string, doubtful map[string]bool) bool {
	if n == nil || !n.live {
		return true
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if l, ok := n.all.listed[dir]; ok && l.in.by != n {
		return false
	}
	n.held.listed = append(n.held.listed, dir)
	n.all.listed[dir] = listedDir{n.held, time.Now(), doubtful}
	return true
}

// begun gives what is in hand so far, for ended once that has shipped.
func (n *neighbour) begun() (h *inHand) {
	if n == nil {
		return nil
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	h, n.held = n.held, &inHand{by: n}
	return h
}

func (n *neighbour) ended(h *inHand) {
	if n == nil {
		return
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	for _, dir := range h.listed {
		if n.all.listed[dir].in == h {
			delete(n.all.listed, dir)
		}
	}
	for _, p := range h.paths {
		if n.all.hands[p] == h {
			delete(n.all.hands, p)
		}
	}
}
