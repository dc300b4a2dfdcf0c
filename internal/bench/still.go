package main

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// span is a time at which no core did anything, as where the host of a virtual
// machine takes its cores away because it used more than its share.
type span struct{ begin, end time.Time }

func (s span) took() time.Duration { return s.end.Sub(s.begin) }

func (s span) meets(o span) bool { return s.begin.Before(o.end) && o.begin.Before(s.end) }

// stillFor is the shortest time that counts; a scheduler alone does not keep
// the one thread with the highest priority waiting for a tenth of it.
const stillFor = 10 * time.Millisecond

// watchStill looks whether the machine stands still: on each core a thread that
// nobody may interrupt sleeps 1 ms at a time. The function that it returns ends
// that; ok is false where we may not have such threads.
func watchStill() (end func() (found []span, ok bool)) {
	cores := runtime.NumCPU()
	gone, may := make([][]span, cores), make([]bool, cores)
	var over atomic.Bool
	var threads sync.WaitGroup
	for core := range cores {
		threads.Go(func() {
			// A thread must not end: what it started would, as the servers here do.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			back, err := onlyOn(core)
			defer back()
			if may[core] = err == nil; !may[core] {
				return
			}
			for last := time.Now(); !over.Load(); {
				pause := unix.NsecToTimespec(int64(time.Millisecond))
				_ = unix.Nanosleep(&pause, nil) // shorter only by a signal
				now := time.Now()
				if now.Sub(last) >= stillFor {
					gone[core] = append(gone[core], span{last, now})
				}
				last = now
			}
		})
	}
	return func() ([]span, bool) {
		over.Store(true)
		threads.Wait()
		return atOnce(gone), !slices.Contains(may, false)
	}
}

// onlyOn binds the thread to a core, with a priority above all that is not
// real-time, until back is called.
func onlyOn(core int) (back func(), err error) {
	var before, one unix.CPUSet
	back = func() {}
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return back, err
	}
	one.Set(core)
	usual := unix.SchedAttr{Size: unix.SizeofSchedAttr}
	first := usual
	first.Policy, first.Priority = unix.SCHED_FIFO, 1
	if err := unix.SchedSetAttr(0, &first, 0); err != nil {
		return back, err
	}
	return func() {
		_ = unix.SchedSetAttr(0, &usual, 0) // nobody may be refused to give that up
		_ = unix.SchedSetaffinity(0, &before)
	}, unix.SchedSetaffinity(0, &one)
}

// atOnce is when all cores were gone.
func atOnce(gone [][]span) []span {
	common := gone[0]
	for _, others := range gone[1:] {
		var both []span
		for _, a := range common {
			for _, b := range others {
				if a.meets(b) {
					both = append(both, span{later(a.begin, b.begin), sooner(a.end, b.end)})
				}
			}
		}
		common = both
	}
	return slices.DeleteFunc(common, func(s span) bool { return s.took() < stillFor })
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func sum(spans []span) (all time.Duration) {
	for _, s := range spans {
		all += s.took()
	}
	return all
}
