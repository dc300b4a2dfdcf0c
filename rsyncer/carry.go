package rsyncer

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/fastsync/fastsync"
)

const (
	// tries are how often a run is started that the other side refuses at once.
	tries = 4
	// shortly is the first pause between two of them.
	shortly = 200 * time.Millisecond
	// sooner divides the stall time before the first line of an rsync that was kept
	// ready: its connection may be dead where no side could tell, as behind a firewall.
	sooner = 4
	// long is after how much time a run that broke is told as a failure instead of
	// being tried again at once: it may take as long again, and whoever looks is to
	// know within 30 s that the other side does not answer.
	long = 10 * time.Second
)

// carry runs jobs in an rsync that was kept ready, or else in a new one. Should
// the first be dead, its batch goes to the second at once.
func (r *Rsyncer) carry(ctx context.Context, s *session, g *group, jobs []job) result {
	stdin := list(g.kind, jobs)
	g.made = map[string]bool{}
	found := func(it item) {
		if it.gone && !g.released {
			s.deleted++
		}
		if _, ours := g.at[it.path]; it.dir && it.made && (r.pull || ours) {
			g.made[it.path] = true
		}
		if i, ok := g.at[it.path]; ok && g.jobs[i].aged {
			g.tell(it.path)
		}
	}
	want := func() spec {
		if g.released || !r.cfg.Delete {
			return spec{g.kind, r.cfg.Delete, -1}
		}
		return spec{g.kind, r.cfg.Delete, max(0, r.cfg.MaxDelete-s.deleted)}
	}
	if s.lane == fastsync.Live && len(g.without) == 0 { // contents are compared in the bulk lane alone
		p := r.pool.take(ctx, want())
		defer r.pool.done()
		if p != nil {
			begun := time.Now()
			p.near.Store(s.near)
			res := p.feed(ctx, stdin, found, r.cfg.Stall/sooner)
			if ctx.Err() != nil {
				return res
			}
			if !stale(res) || errors.Is(res.err, errWanted) || crossed(res) {
				r.pool.served()
				return res
			}
			r.pool.failed(res)
			s.outcome.Cut = true
			if time.Since(begun) >= long {
				return res
			}
		}
	}
	r.await(ctx, s.lane)
	return r.cold(ctx, call{s.lane, r.operands(append(r.args(s.lane, want()), g.more()...)), stdin, found, s.near})
}

// cold starts an rsync for a run. If it was refused before it said anything,
// those that are kept ready may have its place: they go, and it tries again. So
// it does where the server had no time just then, or ssh's connection was lost.
func (r *Rsyncer) cold(ctx context.Context, c call) result {
	begun := time.Now()
	res := r.run(ctx, c)
	var m made
	for try := 1; try < tries && ctx.Err() == nil && time.Since(begun) < long && broken(res) && res.items == 0 && r.again(ctx, try, c.args, res, &m); try++ {
		res = r.run(ctx, c)
	}
	if m.room {
		r.pool.roomMade(m, answered(res))
	}
	if answered(res) {
		r.reached()
	}
	return res
}

// again does what may help a run that was refused, and tells whether to try it
// once more.
func (r *Rsyncer) again(ctx context.Context, try int, args []string, res result, m *made) bool {
	busy, had := turnedAway(res.notes), 0
	m.known = m.known || limited(res.notes)
	chance := try == 1 && !m.known && (busy || overShare(args)) // the next may do as it is
	if !chance {
		had = r.pool.makeRoom(ctx)
		m.room, m.mute, m.had = true, m.mute || !busy, max(m.had, had)
	}
	if busy { // a server knows only a moment later that a client has gone
		rest(ctx, shortly<<(try-1)+rand.N(shortly))
	}
	return busy || chance || had > 0
}

func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// reached says that the other side answers a new run: what waits to try it
// again need not.
func (r *Rsyncer) reached() {
	r.pool.reached()
	for _, s := range r.shares {
		s.reached()
	}
}

// overShare tells whether a run was to use a shared ssh connection, without
// which ssh logs in by itself the next time.
func overShare(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "--rsh=") {
			return strings.Contains(a, sharedWords)
		}
	}
	return false
}

// broken tells whether a run ended as one does that has lost, or never had, the
// other side.
func broken(res result) bool {
	switch res.code {
	case 5, 10, 12, 20, 30, 35, 255:
		return true
	}
	return res.code < 0 && res.err != nil && !errors.Is(res.err, errStalled) && !errors.Is(res.err, errWanted)
}

// answered tells whether a run came so far that its result is about paths, or
// about the room that the target has.
func answered(res result) bool {
	switch res.code {
	case exitOK, exitPartial, exitVanished, exitMaxDeletes, 11:
		return true
	}
	return false
}

// stale tells whether one that was kept ready failed in a way that one of now may
// not: what it was refused when it started it says only when it is used, and
// one whose directory was gone then complains without a word about any path.
func stale(res result) bool {
	return !answered(res) || (res.code == exitPartial || res.code == exitVanished) && res.items == 0 && len(res.busy) == 0
}
