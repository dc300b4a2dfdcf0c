package rsyncer

import (
	"context"
	"strings"
	"sync"
	"time"
)

// limited tells whether the other side said that it has enough connections.
func limited(notes []string) bool { return said(notes, "@ERROR: max connections") }

// turnedAway tells whether a server had no time for one more just then: a
// daemon at its limit, or an sshd at its MaxStartups, which hangs up.
func turnedAway(notes []string) bool {
	return limited(notes) || said(notes, "kex_exchange_identification:") || said(notes, "ssh_exchange_identification:")
}

func said(notes []string, part string) bool {
	for _, n := range notes {
		if strings.Contains(n, part) {
			return true
		}
	}
	return false
}

// sessionRefused tells whether ssh says that its connection carries no more
// sessions, as sshd's MaxSessions has it. It then logs in by itself.
func sessionRefused(note string) bool { return strings.Contains(note, "Session open refused") }

// crowded is called under the mutex.
func (p *pool) crowded(fit int, now time.Time, rest time.Duration) {
	if !now.Before(p.policy.fewer) {
		p.r.cfg.Log.Info().Int("kept", fit).Dur("for", rest).
			Msg("the other side has no room for more connections; fewer rsyncs are kept ready: raise its MaxSessions or max connections, or lower --warm")
	}
	p.policy.crowded(fit, now, rest)
}

// made is what room was made for a run.
type made struct {
	room, known bool // asked for; the other side said that it has none
	mute        bool // asked for since a run was refused without a word
	had         int  // of those that waited
}

// makeRoom ends all that wait and tells how many of them had a place at the
// other side, which a run may need. None is started before that could take it.
func (p *pool) makeRoom(ctx context.Context) (had int) {
	p.mu.Lock()
	p.hold = time.Now().Add(10 * p.policy.first)
	until := p.hold
	p.mu.Unlock()
	p.r.channels.closeAll(until) // each has a session at the other side
	all := p.yield()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	stop := context.AfterFunc(ctx, func() { // a batch that is given up waits for none
		for _, proc := range all {
			proc.kill(errReleased)
		}
	})
	defer stop()
	for _, proc := range all {
		if proc.alive() {
			had++
		}
		waiting.Go(proc.release)
	}
	return had
}

// roomMade says whether a run got through once others were gone.
func (p *pool) roomMade(m made, through bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.hold = now
	p.r.channels.reopen()
	switch {
	case !through: // it was not for want of room
		p.policy.failed(now, p.policy.limits)
	case m.known:
		p.crowded(max(0, m.had-1), now, p.policy.respite)
	case m.had > 0 && m.mute: // chance is as likely as a limit; a server that is busy says so
		p.policy.crowded(max(1, m.had-1), now, p.policy.respite/10)
	}
	p.rouse()
}
