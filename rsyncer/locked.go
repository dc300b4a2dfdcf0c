package rsyncer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/confine"
	"github.com/fastsync/fastsync/internal/readlock"
)

// errWanted ends a run: what it has not read whole must not ship.
var errWanted = errors.New("a writer waits for a file that is being shipped")

// Unlocked says why the rsyncs of this host may read a file that somebody opens for
// writing meanwhile, nil where they do not. Of a pull the other host knows.
func (r *Rsyncer) Unlocked() error {
	_ = r.Unconfined()
	return r.confinement.unlocked
}

// asks tells whether an open file has to be looked for before rsync is let at it.
func (r *Rsyncer) asks() bool { return r.Unlocked() != nil }

func (r *Rsyncer) lockable() error {
	switch {
	case r.pull:
		return nil
	case r.confinement.why != nil:
		return r.confinement.why
	}
	return r.trial(r.tryLocked)
}

// tryLocked sees whether an rsync is refused a file that is being written.
func (r *Rsyncer) tryLocked(cmd *exec.Cmd, files confine.Files, file string) error {
	writer, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer writer.Close()
	var lock *readlock.Lock
	var serving sync.WaitGroup
	refused := false
	said, _ := output(cmd, func() error {
		err = confine.Start(cmd, files, func() (err error) {
			lock, err = readlock.Install(cmd.Args[len(cmd.Args)-2])
			return err
		})
		if lock != nil {
			serving.Go(func() {
				lock.Serve(readlock.Told{Refused: func(string) { refused = true }, Wanted: func(string) {}})
			})
		}
		return err
	})
	if lock != nil {
		lock.Close()
	}
	serving.Wait()
	switch {
	case err != nil:
		return err
	case !refused:
		return fmt.Errorf("%s opens files in a way that is not known, or %s has no leases: %s", r.rsync, file, said)
	}
	return nil
}

// serve lets it have the files of the root that it opens, but for those that are
// being written or that another Sync has, and ends it when a writer waits for one.
func (p *process) serve() {
	defer close(p.served)
	p.lock.Serve(readlock.Told{
		Asked:  func(path string) bool { return p.near.Load().opens(path) },
		Closed: func() { p.near.Load().closes() },
		Refused: func(path string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.res.busy = append(p.res.busy, path)
		},
		Wanted: func(string) { p.kill(errWanted) },
	})
	p.near.Load().closes()
}

// unlock ends that; nobody is left to ask.
func (p *process) unlock() {
	if p.lock != nil {
		p.lock.Close()
		<-p.served
	}
}

// postpone lets the files that a run was refused go round again.
func (s *session) postpone(res result, jobs []job, open map[string]verdict) {
	listed := map[string]bool{}
	for _, j := range jobs {
		listed[j.path] = true
	}
	for _, p := range res.busy {
		open[p] = verdict{busy: true}
		if !listed[p] {
			s.outcome.Again = append(s.outcome.Again, fastsync.Change{Path: p, Scope: fastsync.Entry})
		}
	}
}
