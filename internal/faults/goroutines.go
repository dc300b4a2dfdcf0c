package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"syscall"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// alike is how many goroutines may have begun at one place, for all targets and
// for each: those of its rsyncs, their watchdogs and connections.
const alike, alikeOfTarget = 6, 14

// origin is the place where a goroutine began, as Go's own dump tells it.
var origin = regexp.MustCompile(`(?m)^created by .*\n\t(\S+:\d+)`)

// origins counts goroutines by the place where they began.
func origins(dump []byte) map[string]int {
	found := map[string]int{}
	for _, m := range origin.FindAllSubmatch(dump, -1) {
		found[string(m[1])]++
	}
	return found
}

// goroutines has fastsync say by SIGQUIT what it still does, which ends it, and
// sees that no place in the code has begun more than it ends.
func (r *rig) goroutines(ctx context.Context) error {
	groups := []*lab.Group{r.agent}
	if r.apart {
		groups = append(groups, r.sub)
	}
	for _, g := range groups {
		from := len(r.said())
		if err := syscall.Kill(g.Leader, syscall.SIGQUIT); err != nil {
			return fmt.Errorf("C6: ask for goroutines: %w", err)
		}
		if err := lab.Until(ctx, 10*time.Second, 20*time.Millisecond, g.Over); err != nil {
			return fmt.Errorf("C6: ask for goroutines: %w", err)
		}
		began := origins(r.said()[from:])
		if len(began) == 0 {
			return errors.New("C6: fastsync did not tell of its goroutines")
		}
		for where, n := range began {
			if n > alike+alikeOfTarget*max(r.targets, 1) {
				return fmt.Errorf("C6: %d goroutines of %s", n, where)
			}
		}
	}
	return nil
}
