package watcher

import (
	"fmt"
	"testing"

	"github.com/fastsync/fastsync"
)

// Where too many directories would have to be remembered, each counts.
func TestWhatMayHaveGoneUnseenIsBounded(t *testing.T) {
	var b blind
	for i := range mostBlind {
		b.add(fmt.Sprint(i))
	}
	if b.scope("0/d") != fastsync.Listing {
		t.Error("one of them is not known")
	}
	if b.scope("another/d") != fastsync.Listing || len(b.dirs) > 0 {
		t.Errorf("%d directories are remembered, or one was forgotten", len(b.dirs))
	}
}
