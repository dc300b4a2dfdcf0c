package subscriber

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who is at rest looks once in 20 s: what it saw at the beginning of a read counts
// from then on, and is taken over at its end, not two reads later.
func TestEventsOfAnotherProcessAreTakenOverAtTheEndOfARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var strangers since
		read := func(on bool) bool {
			asked := time.Now()
			time.Sleep(ReadWait - time.Millisecond) // it ends at a beat, or just before
			return strangers.longer(on, asked, orphaned)
		}
		if !read(true) {
			t.Error("not at the end of a read at whose beginning they were there")
		}
		if read(false) {
			t.Error("without any")
		}
		asked := time.Now()
		if strangers.longer(true, asked, orphaned) {
			t.Error("at once")
		}
		time.Sleep(orphaned)
		if strangers.longer(false, time.Now(), orphaned) || strangers.longer(true, time.Now(), orphaned) {
			t.Error("although there were none in between")
		}
	})
}
