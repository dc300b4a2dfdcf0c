package watcher

import (
	"fmt"
	"testing"
)

// Where too many directories would have to be remembered, each counts.
func TestWhatMayHaveGoneUnseenIsBounded(t *testing.T) {
	var b blind
	for i := range mostBlind {
		b.add(fmt.Sprint(i))
	}
	if !b.made("0/d") {
		t.Error("one of them is not known")
	}
	if !b.made("another/d") || len(b.dirs) > 0 {
		t.Errorf("%d directories are remembered, or one was forgotten", len(b.dirs))
	}
}
