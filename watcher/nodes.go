package watcher

import (
	"path"

	"github.com/fastsync/fastsync"
)

// nodes is a set of directories that knows what is below each. For 110,000 of
// them a map of maps took 60 MB; this takes 7, beside the paths.
type nodes struct {
	index map[string]int32
	// at[0] is nobody, so that a link of 0 means none.
	at   []node
	free int32 // the first unused of at, linked by next
}

type node struct {
	path                      string
	parent, child, next, prev int32
}

func newNodes() nodes { return nodes{index: map[string]int32{}, at: make([]node, 1)} }

func (n *nodes) len() int { return len(n.index) }

func (n *nodes) has(dir string) bool { _, ok := n.index[dir]; return ok }

// add puts dir in, below its parent if that is known.
func (n *nodes) add(dir string) {
	if n.has(dir) {
		return
	}
	i := n.free
	if i == 0 {
		i = int32(len(n.at))
		n.at = append(n.at, node{})
	} else {
		n.free = n.at[i].next
	}
	self := node{path: dir}
	if parent := n.index[path.Dir(dir)]; parent != 0 && dir != fastsync.Root {
		self.parent, self.next = parent, n.at[parent].child
		n.at[self.next].prev = i
		n.at[parent].child = i
	}
	n.at[i] = self
	n.index[dir] = i
}

// remove takes dir out and all below it, and calls gone for each, children first.
func (n *nodes) remove(dir string, gone func(string)) {
	i := n.index[dir]
	if i == 0 {
		return
	}
	for n.at[i].child != 0 {
		n.remove(n.at[n.at[i].child].path, gone)
	}
	self := n.at[i]
	gone(self.path)
	if self.prev != 0 {
		n.at[self.prev].next = self.next
	} else {
		n.at[self.parent].child = self.next
	}
	n.at[self.next].prev = self.prev
	delete(n.index, self.path)
	n.at[i] = node{next: n.free}
	n.free = i
}

// below returns the names of the directories in dir.
func (n *nodes) below(dir string) map[string]struct{} {
	names := map[string]struct{}{}
	for i := n.at[n.index[dir]].child; i != 0; i = n.at[i].next {
		names[path.Base(n.at[i].path)] = struct{}{}
	}
	return names
}
