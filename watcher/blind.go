package watcher

import (
	"path"
	"sync"
)

// blind knows in which directories something may have gone while nobody watched:
// those whose listing a catch-up has told, and what was made in them since. A target
// may still have what is gone when another directory takes its name.
type blind struct {
	mu   sync.Mutex
	dirs map[string]bool
	all  bool // too many to tell apart
}

// mostBlind bounds them, some 2 MB.
const mostBlind = 20_000

func (b *blind) add(dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(dir)
}

func (b *blind) note(dir string) {
	if b.all = b.all || len(b.dirs) == mostBlind; b.all {
		b.dirs = nil
		return
	}
	if b.dirs == nil {
		b.dirs = map[string]bool{}
	}
	b.dirs[dir] = true
}

// made notes a new directory, and tells whether another one of its name may have gone
// unseen.
func (b *blind) made(dir string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.all && !b.dirs[path.Dir(dir)] {
		return false
	}
	b.note(dir)
	return true
}
