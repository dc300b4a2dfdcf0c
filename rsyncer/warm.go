package rsyncer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// maxAge is how long a started rsync may wait for a list.
	maxAge = 10 * time.Minute
	// maxIdle is how long after the last batch rsyncs are kept ready: the first
	// batch after a longer pause pays for a start, and a night costs no logins.
	maxIdle = time.Hour
	// learned is the same for kinds of run that are not of every day.
	learned = 5 * time.Minute
	// respite is how long fewer are kept after the other side refused one.
	respite = 10 * time.Minute
	// firstPause and mostPause bound the time between two tries to start one
	// that ends before it is used.
	firstPause, mostPause = time.Second, 5 * time.Minute
)

// everyday is the run of almost every batch; the pool has it ready at the start.
func (r *Rsyncer) everyday() spec {
	if r.cfg.Delete {
		return spec{entries, true, r.cfg.MaxDelete}
	}
	return spec{entries, false, -1}
}

// pool keeps rsyncs that are started, logged in, and wait for their list.
type pool struct {
	r    *Rsyncer
	wake chan struct{}

	// The mutex is for Sync, which takes what run starts.
	mu       sync.Mutex
	running  bool
	stocks   map[spec]*stock
	failures int       // in a row that ended before they were used
	notUntil time.Time // start none before this
	fewer    time.Time // keep only one until then: the other side allows no more
}

// stock are the rsyncs for one kind of run, oldest first.
type stock struct {
	idle []*process
	most int
	used time.Time // when the last batch wanted one
}

func newPool(r *Rsyncer) *pool {
	return &pool{r: r, wake: make(chan struct{}, 1), stocks: map[spec]*stock{}}
}

// run keeps the stocks filled until ctx ends.
func (p *pool) run(ctx context.Context) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	p.mu.Lock()
	p.running = true
	p.stocks[p.r.everyday()] = &stock{most: p.r.cfg.Warm, used: time.Now()}
	p.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.running = false
			p.mu.Unlock()
			p.yield(&waiting)
			return
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(p.tend(time.Now(), &waiting)))
	}
}

func (p *pool) rouse() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyhow
	}
}

// take returns one that waits for its list, or nil. What it is asked for is
// kept ready from then on.
func (p *pool) take(s spec) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return nil
	}
	defer p.rouse()
	st := p.stocks[s]
	if st == nil {
		p.stocks[s] = &stock{most: 1, used: time.Now()}
		return nil
	}
	st.used = time.Now()
	for i, proc := range st.idle {
		if proc.alive() && p.r.inRoot(proc.pid) { // tend takes the others out
			st.idle = slices.Delete(st.idle, i, i+1)
			p.failures = 0
			return proc
		}
	}
	return nil
}

// tend takes out what has ended or is too old, starts what is missing, and
// returns when to look again.
func (p *pool) tend(now time.Time, waiting *sync.WaitGroup) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := now.Add(maxIdle)
	for s, st := range p.stocks {
		limit, most := maxIdle, st.most
		if s != p.r.everyday() {
			limit = learned
		}
		if now.Before(p.fewer) {
			most = 1
		}
		until := st.used.Add(limit)
		if !now.Before(until) {
			most = 0
		} else {
			next = soonest(next, until)
		}
		next = soonest(next, p.weed(st, most, now, waiting))
		if most == 0 && s != p.r.everyday() {
			delete(p.stocks, s)
		}
		if len(st.idle) < most && now.Before(p.notUntil) {
			next = soonest(next, p.notUntil)
			continue
		}
		for len(st.idle) < most {
			if !p.add(s, st, waiting) {
				break
			}
		}
	}
	return next
}

// weed drops those that have ended, are too old or too many, and returns when
// the next is too old.
func (p *pool) weed(st *stock, most int, now time.Time, waiting *sync.WaitGroup) time.Time {
	next := now.Add(maxIdle)
	kept := st.idle[:0]
	for _, proc := range st.idle {
		old := proc.begun.Add(maxAge)
		switch {
		case !proc.alive():
			p.failed(proc.res, now)
		case len(kept) >= most || !now.Before(old) || !p.r.inRoot(proc.pid):
			waiting.Go(proc.release)
		default:
			if proc.refused.Load() && !now.Before(p.fewer) {
				p.fewer = now.Add(respite)
			}
			kept = append(kept, proc)
			next = soonest(next, old)
		}
	}
	clear(st.idle[len(kept):])
	st.idle = kept
	return next
}

// failed puts off the next start: what keeps ending by itself is not worth a
// login each time. The batches find out why.
func (p *pool) failed(res result, now time.Time) {
	p.failures++
	pause := min(firstPause<<min(p.failures-1, 20), mostPause)
	p.notUntil = now.Add(pause - time.Duration(rand.Int64N(int64(pause)/4+1)))
	if limited(res.notes) {
		p.fewer = now.Add(respite)
	}
	p.r.cfg.Log.Debug().Str("err", cause(res.notes)).Int("code", res.code).Msg("an rsync that was kept ready has ended")
}

func (p *pool) add(s spec, st *stock, waiting *sync.WaitGroup) bool {
	proc, err := p.r.start(p.r.operands(p.r.args(fastsync.Live, s)))
	if err != nil {
		p.failed(result{notes: []string{err.Error()}}, time.Now())
		return false
	}
	st.idle = append(st.idle, proc)
	waiting.Go(func() {
		<-proc.ended
		p.rouse()
	})
	return true
}

// inRoot tells whether a started rsync is in the root, or has not gone there
// yet: it stays in a directory whose name another has taken since.
func (r *Rsyncer) inRoot(pid int) bool {
	if r.pull {
		return true
	}
	at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	own, err := os.Stat(".")
	return os.SameFile(at, r.root) || err == nil && os.SameFile(at, own)
}

// yield lets go of all that wait, and tells whether there were any: a place
// that the other side gives to only so many may be needed for a batch.
func (p *pool) yield(waiting *sync.WaitGroup) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	any := false
	for _, st := range p.stocks {
		for _, proc := range st.idle {
			any = true
			waiting.Go(proc.release)
		}
		st.idle = nil
	}
	return any
}

// makeRoom lets go of all that wait and keeps none for a while.
func (p *pool) makeRoom() bool {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	p.mu.Lock()
	p.notUntil, p.fewer = time.Now().Add(respite), time.Now().Add(2*respite)
	p.mu.Unlock()
	return p.yield(&waiting)
}

// carry runs jobs in an rsync that was kept ready, or else in a new one. Should
// the first be dead, its batch goes to the second at once.
func (r *Rsyncer) carry(ctx context.Context, s *session, g *group, jobs []job) result {
	stdin := list(g.kind, jobs)
	found := func(it item) {
		if it.gone && !g.released {
			s.deleted++
		}
	}
	want := func() spec {
		if g.released || !r.cfg.Delete {
			return spec{g.kind, r.cfg.Delete, -1}
		}
		return spec{g.kind, r.cfg.Delete, max(0, r.cfg.MaxDelete-s.deleted)}
	}
	if s.lane == fastsync.Live && len(g.without) == 0 {
		if p := r.pool.take(want()); p != nil {
			if res := p.feed(ctx, stdin, found); ctx.Err() != nil || !stale(res) {
				return res
			}
		}
	}
	return r.cold(ctx, r.operands(append(r.args(s.lane, want()), g.exclusions()...)), stdin, found)
}

// cold starts an rsync for a run. If it was refused before it said anything,
// those that are kept ready may have its place: they go, and it tries again.
func (r *Rsyncer) cold(ctx context.Context, args []string, stdin []byte, found func(item)) result {
	res := r.run(ctx, args, stdin, found)
	if ctx.Err() == nil && broken(res) && res.items == 0 && r.pool.makeRoom() {
		res = r.run(ctx, args, stdin, found)
	}
	return res
}

// broken tells whether a run ended as one does that has lost, or never had, the
// other side.
func broken(res result) bool {
	switch res.code {
	case 5, 10, 12, 20, 30, 35, 255:
		return true
	}
	return res.code < 0 && res.err != nil && res.err != errStalled
}

// stale tells whether one that was kept ready failed in a way that one of now may
// not: what it was refused when it started it says only when it is used.
func stale(res result) bool {
	switch res.code {
	case exitOK, exitPartial, exitVanished, exitMaxDeletes, 11:
		return false
	}
	return res.err != errStalled
}

// limited tells whether the other side said that it has enough connections.
func limited(notes []string) bool {
	for _, n := range notes {
		if strings.Contains(n, "@ERROR: max connections") || sessionRefused(n) {
			return true
		}
	}
	return false
}

// sessionRefused tells whether ssh says that its connection carries no more
// sessions, as sshd's MaxSessions has it. It then logs in by itself.
func sessionRefused(note string) bool { return strings.Contains(note, "Session open refused") }

func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
