package watcher

import (
	"hash/maphash"
	"path"

	"github.com/fastsync/fastsync"
)

// nodes is a set of directories that knows what is below each. 110,000 of them
// take 4 MB beside their paths; a map of strings to such nodes took 8.
type nodes struct {
	seed maphash.Seed
	// heads holds for each hash its first node.
	heads []int32
	// blocks never move, so that growing leaves nothing behind. Node 0 is
	// nobody: a link of 0 means none.
	blocks [][]node
	used   int32 // how many nodes were ever taken
	free   int32 // the first that was given back, linked by next
	count  int
}

// node is 32 bytes. A directory knows its first child and both neighbours.
type node struct {
	path              string // empty for one that is free
	child, next, prev int32
	same              int32 // the next with this hash
}

const block = 1024

func newNodes() nodes {
	return nodes{seed: maphash.MakeSeed(), heads: make([]int32, 64), blocks: [][]node{make([]node, block)}, used: 1}
}

func (n *nodes) at(i int32) *node { return &n.blocks[i/block][i%block] }

func (n *nodes) head(dir string) *int32 {
	return &n.heads[maphash.String(n.seed, dir)&uint64(len(n.heads)-1)]
}

func (n *nodes) find(dir string) int32 {
	i := *n.head(dir)
	for i != 0 && n.at(i).path != dir {
		i = n.at(i).same
	}
	return i
}

func (n *nodes) has(dir string) bool { return n.find(dir) != 0 }

func (n *nodes) parent(dir string) int32 {
	if dir == fastsync.Root {
		return 0
	}
	return n.find(path.Dir(dir))
}

// add puts dir in, below its parent if that is there. One that came before its
// parent is to be added again.
func (n *nodes) add(dir string) {
	i := n.find(dir)
	if i == 0 {
		if n.count == len(n.heads) {
			n.rehash()
		}
		i = n.take()
		self, head := n.at(i), n.head(dir)
		self.path, self.same, *head = dir, *head, i
		n.count++
	}
	self, parent := n.at(i), n.parent(dir)
	if parent == 0 || self.prev != 0 || n.at(parent).child == i {
		return
	}
	self.next = n.at(parent).child
	n.at(self.next).prev = i
	n.at(parent).child = i
}

func (n *nodes) take() int32 {
	if i := n.free; i != 0 {
		n.free = n.at(i).next
		*n.at(i) = node{}
		return i
	}
	if n.used%block == 0 {
		n.blocks = append(n.blocks, make([]node, block))
	}
	n.used++
	return n.used - 1
}

func (n *nodes) rehash() {
	n.heads = make([]int32, 2*len(n.heads))
	for i := int32(1); i < n.used; i++ {
		if self := n.at(i); self.path != "" {
			head := n.head(self.path)
			self.same, *head = *head, i
		}
	}
}

// remove takes dir out and all below it, and calls gone for each, children first.
func (n *nodes) remove(dir string, gone func(string)) {
	i := n.find(dir)
	if i == 0 {
		return
	}
	self := n.at(i)
	for self.child != 0 {
		n.remove(n.at(self.child).path, gone)
	}
	gone(self.path)
	if parent := n.parent(self.path); self.prev != 0 {
		n.at(self.prev).next = self.next
	} else if parent != 0 && n.at(parent).child == i {
		n.at(parent).child = self.next
	}
	n.at(self.next).prev = self.prev
	link := n.head(self.path)
	for *link != i {
		link = &n.at(*link).same
	}
	*link = self.same
	*self = node{next: n.free}
	n.free = i
	n.count--
}

// below returns the names of the directories in dir.
func (n *nodes) below(dir string) map[string]struct{} {
	names := map[string]struct{}{}
	if i := n.find(dir); i != 0 {
		for i = n.at(i).child; i != 0; i = n.at(i).next {
			names[path.Base(n.at(i).path)] = struct{}{}
		}
	}
	return names
}
