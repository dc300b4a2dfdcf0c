package rsyncer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fastsync/fastsync"
)

// maxRunning is how many runs of the live lane may be under way, each with a
// channel, beside those that wait.
const maxRunning = 2

// channels are the live lane's shells that no rsync uses.
type channels struct {
	r *Rsyncer

	// The mutex is for Sync, which takes what run opens.
	mu      sync.Mutex
	free    []*channel
	count   int // all that there are, free or not, and those that are being opened
	opening int
	room    int       // how many the other side had room for
	full    time.Time // until then there is no more room
	again   backoff
	shut    time.Time // none is kept or opened before
	nice    bool      // the host of the last one that was opened has the command

	freed chan struct{} // has a token after one became free
}

// take returns a shell that waits, or nil.
func (c *channels) take() *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weed()
	n := len(c.free)
	if n == 0 {
		return nil
	}
	ch := c.free[n-1]
	c.free = c.free[:n-1]
	return ch
}

// weed drops those that have ended, with the connection most likely.
func (c *channels) weed() {
	c.free = slices.DeleteFunc(c.free, func(ch *channel) bool {
		if ch.alive() {
			return false
		}
		c.count--
		ch.close()
		return true
	})
}

// await returns a shell that waits, or will within patience: a new login takes
// longer than most runs. Nil means that there is none.
func (c *channels) await(ctx context.Context, patience time.Duration) *channel {
	var late <-chan time.Time
	for {
		if ch := c.take(); ch != nil || !c.inUse() {
			if late != nil {
				c.tell() // who else waits; two may have become free at once
			}
			return ch
		}
		if late == nil {
			late = time.After(patience)
		}
		select {
		case <-c.freed:
		case <-late:
			return c.take()
		case <-ctx.Done():
			return nil
		}
	}
}

// inUse tells whether there are shells that an rsync uses.
func (c *channels) inUse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count-c.opening > len(c.free)
}

// anyFree tells whether a shell waits.
func (c *channels) anyFree() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weed()
	return len(c.free) > 0
}

// canGiveWay tells whether the other host is known to run what we ask for, and to
// have nice: one with a forced command takes rsync alone.
func (c *channels) canGiveWay() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nice
}

// wanted tells whether runs are to wait for a channel, and whether one more is to
// be opened for them.
func (c *channels) wanted(now time.Time) (wait, open bool) {
	if !c.r.channelled() || c.r.shared(fastsync.Live) == "" {
		return false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.again.notUntil) || now.Before(c.shut) {
		return c.count > 0, false
	}
	most := c.r.cfg.Warm + maxRunning
	if now.Before(c.full) {
		most = min(most, c.room)
	}
	if c.opening > 0 || c.count >= most {
		return c.count > 0, false
	}
	c.opening++
	c.count++
	return true, true
}

// fewerThan tells whether there are fewer than n.
func (c *channels) fewerThan(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weed()
	return c.count < n
}

// noMore says that the connection carries no more sessions than it has.
func (c *channels) noMore(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fits(now)
}

// fits says that there is room for those that there are, for a while.
func (c *channels) fits(now time.Time) { c.room, c.full = c.count, now.Add(c.r.limits.respite) }

// open opens the one that wanted asked for.
func (c *channels) open(ctx context.Context) {
	ch, err := c.r.openChannel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening--
	if err == nil && ch.refused.Load() { // it has logged in by itself, which is too dear
		c.count--
		c.fits(time.Now())
		c.mu.Unlock()
		ch.close()
		c.mu.Lock()
		return
	}
	if err != nil {
		c.count--
		c.again.failed(time.Now(), c.r.limits)
		if errors.Is(err, errNoShell) { // most likely for good, and each try is a line in a log there
			c.again.notUntil = time.Now().Add(c.r.limits.respite)
			c.nice = false
		}
		if ctx.Err() == nil {
			c.r.cfg.Log.Debug().Err(err).Msg("no shell is kept at the other host; each run has a session of its own")
		}
		return
	}
	c.again.succeeded()
	c.nice = ch.nice
	c.free = append(c.free, ch)
	c.tell()
}

// tell wakes who awaits one: it is free, or gone.
func (c *channels) tell() {
	select {
	case c.freed <- struct{}{}:
	default:
	}
}

// giveBack takes a channel that a process used: for the next one if both its
// ends are through with it.
func (c *channels) giveBack(ch *channel, res result) {
	ch.user.Store(nil)
	ok := answered(res) && ch.awaitServed() == nil
	c.mu.Lock()
	if ok = ok && !time.Now().Before(c.shut); ok {
		c.free = append(c.free, ch)
	} else {
		c.count--
	}
	c.mu.Unlock()
	c.tell()
	if !ok {
		ch.close()
	}
}

// reopen lets them be kept again.
func (c *channels) reopen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = time.Time{}
}

// closeAll ends those that are free, and until then each that becomes free.
func (c *channels) closeAll(until time.Time) {
	c.mu.Lock()
	all := c.free
	c.free, c.count, c.shut = nil, c.count-len(c.free), until
	c.mu.Unlock()
	for _, ch := range all {
		ch.close()
	}
}
