package watcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lease"
)

// chunk is how many events a catch-up publishes at a time.
const chunk = 1000

// CatchUp publishes whatever below the root has a ctime at or after since: an
// entry for a file or link, a listing for a directory, so that deletions are
// found. A new directory in a changed one may have been moved there with old
// children: it is published as a tree. A zero since publishes the root as one
// tree. CatchUp reads no file and returns when all is published.
func (w *Watcher) CatchUp(ctx context.Context, since time.Time) error {
	began := time.Now()
	w.mu.Lock()
	w.walks++
	walk := w.walks
	w.owed[walk] = since
	w.mu.Unlock()

	c := catchUp{w: w, ctx: ctx, since: since}
	if !since.IsZero() {
		c.since = since.Add(-w.cfg.slack)
	}
	if err := c.root(); err != nil {
		return fmt.Errorf("catch up %q since %s: %w", w.cfg.Root, since.Format(time.RFC3339), err)
	}
	if err := c.flush(); err != nil {
		return fmt.Errorf("publish what a catch-up found: %w", err)
	}
	took := time.Since(began)
	w.mu.Lock()
	// This walk has also paid for those that failed before it and looked at less.
	maps.DeleteFunc(w.owed, func(id int, t time.Time) bool { return id <= walk && !t.Before(since) })
	w.caught = true
	w.status.CatchUpAt, w.status.CatchUpTook, w.status.CatchUpFound = time.Now(), took, c.found
	w.mu.Unlock()
	w.cfg.Log.Info().Time("since", since).Int("found", c.found).Dur("took", took).Msg("caught up")
	return nil
}

// catchUp is one walk. It lives no longer than its context.
type catchUp struct {
	w     *Watcher
	ctx   context.Context
	since time.Time
	batch []fastsync.Event
	open  []opened
	found int
}

func (c *catchUp) root() error {
	info, err := os.Lstat(c.w.cfg.Root)
	if err != nil {
		return err
	}
	if c.since.IsZero() {
		if err := c.emit(fastsync.Root, fastsync.Tree); err != nil {
			return err
		}
		return c.below(fastsync.Root, true)
	}
	if fresh := c.fresh(info); fresh {
		if err := c.emit(fastsync.Root, fastsync.Listing); err != nil {
			return err
		}
	}
	return c.list(fastsync.Root, c.fresh(info))
}

// list looks at what is in dir; fresh says that dir itself has a new ctime.
func (c *catchUp) list(dir string, fresh bool) error {
	return c.each(dir, func(p string, info fs.FileInfo) error {
		switch changed := c.fresh(info); {
		case !info.IsDir() && changed:
			if c.probe(p, info) && c.w.cfg.Mode != Off {
				return nil // the loop publishes it when it is closed
			}
			return c.emit(p, fastsync.Entry)
		case !info.IsDir():
			return nil
		case changed && fresh:
			if err := c.emit(p, fastsync.Tree); err != nil {
				return err
			}
			return c.below(p, false)
		case changed:
			if err := c.emit(p, fastsync.Listing); err != nil {
				return err
			}
		}
		return c.list(p, c.fresh(info))
	})
}

// below looks for open files in a directory that was published as a tree.
// Below the root of a first copy only files of the last day are worth a
// probe: one that was not changed for longer ships as it is now, and the next
// write to it is an event and a new ctime.
func (c *catchUp) below(dir string, first bool) error {
	return c.each(dir, func(p string, info fs.FileInfo) error {
		if info.IsDir() {
			return c.below(p, first)
		}
		if !first || time.Since(ctime(info)) < 24*time.Hour {
			c.probe(p, info)
		}
		return nil
	})
}

func (c *catchUp) each(dir string, visit func(string, fs.FileInfo) error) error {
	entries, err := os.ReadDir(c.w.abs(dir))
	if err != nil && dir == fastsync.Root {
		return err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.w.cfg.Log.Warn().Err(err).Str("path", dir).Msg("cannot list a directory; give the agent the right to read it")
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		p := path.Join(dir, e.Name())
		if c.w.cfg.Excluded(p, e.IsDir()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone since: its directory has a new ctime
		}
		if err := visit(p, info); err != nil {
			return err
		}
	}
	return nil
}

// probe remembers a file that is still being written, for the loop to publish
// when it is closed, and tells whether it is. The checkpoint stays at its
// ctime until then, so that the next catch-up finds it should this process die.
func (c *catchUp) probe(p string, info fs.FileInfo) bool {
	state, _ := lease.Probe(c.w.abs(p))
	busy := state == lease.Open || state == lease.Unknown && time.Since(ctime(info)) < c.w.cfg.Quiet
	if busy {
		c.open = append(c.open, opened{p, ctime(info)})
	}
	if len(c.open) >= chunk {
		c.w.hand(c.open)
		c.open = nil
	}
	return busy
}

func (c *catchUp) emit(p string, scope fastsync.Scope) error {
	c.batch = append(c.batch, fastsync.Event{
		Change: fastsync.Change{Path: p, Scope: scope}, Origin: fastsync.CatchUp, At: time.Now(),
	})
	c.found++
	if len(c.batch) < chunk {
		return nil
	}
	return c.flush()
}

func (c *catchUp) flush() error {
	c.w.hand(c.open)
	c.open = nil
	if len(c.batch) == 0 {
		return nil
	}
	batch := c.batch
	c.batch = nil
	return c.w.cfg.Publisher.Publish(c.ctx, batch...)
}

func (c *catchUp) fresh(info fs.FileInfo) bool { return !ctime(info).Before(c.since) }

// ctime is when the inode last changed, which no program can set back.
func ctime(info fs.FileInfo) time.Time {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	return time.Unix(st.Ctim.Unix())
}
