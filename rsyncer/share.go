package rsyncer

import (
	"context"
	"sync"
	"time"

	"github.com/fastsync/fastsync"
)

// share is one ssh connection that all runs of a lane use: a login takes ten
// times as long as one more session. Without it ssh logs in for each run.
type share struct {
	r      *Rsyncer
	lane   fastsync.Lane
	socket string // set by begin

	// The mutex is for the runs, which ask while run works.
	mu    sync.Mutex
	phase phase
	again backoff
	users int // runs that go on
	used  time.Time
	state chan struct{} // closed and made anew when phase changes
	want  chan struct{} // wakes run
}

type phase int

const (
	off     phase = iota // run does not run
	idle                 // nobody needs it
	logging              // in
	up
	resting // after its end, until it is tried again
)

// newShares gives each lane its own: one TCP stream must not carry a video
// before a photo.
func (r *Rsyncer) newShares() map[fastsync.Lane]*share {
	shares := map[fastsync.Lane]*share{}
	if len(r.sshCommand()) == 0 {
		return shares
	}
	for _, lane := range []fastsync.Lane{fastsync.Live, fastsync.Bulk} {
		shares[lane] = &share{r: r, lane: lane, state: make(chan struct{}), want: make(chan struct{}, 1)}
	}
	return shares
}

// A login takes less than usualLogin, and is given up after longestLogin.
const usualLogin, longestLogin = 3 * time.Second, 30 * time.Second

// sharedWords are followed by the socket's path.
const sharedWords = " -o ControlMaster=no -S "

// shared are the words that let a run use its lane's connection, if it is up.
func (r *Rsyncer) shared(lane fastsync.Lane) string {
	if s := r.shares[lane]; s != nil && s.in(up) {
		return sharedWords + s.socket
	}
	return ""
}

// hopeless is how many logins in a row may fail until runs that need no haste
// log in by themselves: it may be that only sharing is impossible.
const hopeless = 2

// hopeful tells whether a lane's connection will probably be up soon.
func (r *Rsyncer) hopeful(lane fastsync.Lane) bool {
	s := r.shares[lane]
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == logging || s.phase == resting && s.again.failures < hopeless
}

func (s *share) in(p phase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == p
}

// use says that a lane is needed until the function that it returns is called.
// A bulk run waits for its connection, which is opened when there is something
// to ship; a live one may find an rsync that is ready.
func (r *Rsyncer) use(ctx context.Context, lane fastsync.Lane) (done func()) {
	s := r.shares[lane]
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	s.users++
	if s.phase == idle { // as run will see at once
		s.enter(logging)
	}
	s.mu.Unlock()
	s.rouse()
	if lane == fastsync.Bulk {
		r.await(ctx, lane)
	}
	return func() {
		s.mu.Lock()
		s.users--
		s.used = time.Now()
		s.mu.Unlock()
		r.pool.rouse() // calm may begin
	}
}

// using tells whether runs of a lane go on.
func (r *Rsyncer) using(lane fastsync.Lane) bool {
	s := r.shares[lane]
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users > 0
}

// await waits while a lane's connection logs in: a run's own login takes as
// long, and a server may not take two at a time. A live run does not wait for
// one that hangs.
func (r *Rsyncer) await(ctx context.Context, lane fastsync.Lane) {
	s := r.shares[lane]
	if lane == fastsync.Live {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, usualLogin)
		defer cancel()
	}
	for s != nil {
		s.mu.Lock()
		state, wait := s.state, s.phase == logging
		s.mu.Unlock()
		if !wait {
			return
		}
		select {
		case <-state:
		case <-ctx.Done():
			return
		}
	}
}

func (s *share) rouse() {
	select {
	case s.want <- struct{}{}:
	default: // it will look anyhow
	}
}

// reached says that a run got through: what waits to try again need not.
func (s *share) reached() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == resting && s.again.excuse() {
		s.rouse()
	}
}

// enter is called under the mutex. It wakes those that wait for a change.
func (s *share) enter(p phase) {
	s.phase = p
	close(s.state)
	s.state = make(chan struct{})
	s.r.pool.rouse()
}

func (s *share) set(p phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(p)
}

// begin is for before run and whoever asks for the connection: the pool's first
// rsyncs wait for it.
func (s *share) begin(socket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket = socket
	if s.lane == fastsync.Live {
		s.used = time.Now()
	}
	if s.enter(logging); s.idleAt(time.Now()) {
		s.enter(idle)
	}
}

// run keeps the connection for as long as it is used, until ctx ends.
func (s *share) run(ctx context.Context) {
	defer s.set(off)
	for ctx.Err() == nil {
		if pause := s.next(time.Now()); pause != 0 {
			s.pause(ctx, pause)
			continue
		}
		begun := time.Now()
		said := s.once(ctx)
		if !s.unused(time.Now()) && ctx.Err() == nil {
			s.ended(begun, said)
		}
	}
}

// next is how long to wait before the next login, 0 for not at all, negative
// for until somebody needs it.
func (s *share) next(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.idleAt(now):
		s.enter(idle)
		return -1
	case now.Before(s.again.notUntil):
		s.enter(resting)
		return s.again.notUntil.Sub(now)
	}
	s.enter(logging)
	return 0
}

func (s *share) pause(ctx context.Context, pause time.Duration) {
	if pause > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, pause)
		defer cancel()
	}
	select {
	case <-s.want:
	case <-ctx.Done():
	}
}

// ended puts off the next login, for longer each time, unless this one was good
// for a while.
func (s *share) ended(begun time.Time, said string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(begun) >= s.r.limits.most {
		s.again.succeeded()
	}
	s.again.failed(now, s.r.limits)
	s.r.cfg.Log.Debug().Str("err", said).Str("lane", string(s.lane)).Dur("again", s.again.notUntil.Sub(now)).Msg("the shared ssh connection has ended")
}

func (s *share) unused(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idleAt(now)
}

// idleAt is called under the mutex. Nobody waits for bulk's login.
func (s *share) idleAt(now time.Time) bool {
	patience := s.r.limits.idle
	if s.lane == fastsync.Bulk {
		patience = s.r.limits.learned
	}
	return s.users == 0 && now.Sub(s.used) >= patience
}
