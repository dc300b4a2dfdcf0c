package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// aDay is how far the clock jumps.
const aDay = 24 * time.Hour

// jumping is a fastsync whose clock jumps, and the file system's with it: by so
// many seconds at a time, both in FASTSYNC_TEST_CLOCK as BY@UNIX. A machine has one
// clock, and no file's ctime can be set, so that both are changed where they are read.
var jumping = []patch{
	{timeSource, "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", `
// Jumped is a time after the jump of a clock, if that was before it.
func Jumped(sec, nsec int64) Time {
	return Unix(jumped(sec), nsec)
}

var jump struct {
	once   sync.Once
	by, at int
}

func jumped(sec int64) int64 {
	jump.once.Do(func() {
		text, _ := syscall.Getenv("FASTSYNC_TEST_CLOCK")
		for i := range len(text) {
			if text[i] == '@' {
				jump.by, _ = atoi(text[:i])
				jump.at, _ = atoi(text[i+1:])
			}
		}
	})
	if sec >= int64(jump.at) {
		sec += int64(jump.by)
	}
	return sec
}

func Now() Time {
	sec, nsec, mono := runtimeNow()
	sec = jumped(sec)
`},
	{timeSource, "\t_ \"unsafe\" // for go:linkname\n", "\t\"sync\"\n\t\"syscall\"\n\t_ \"unsafe\" // for go:linkname\n"},
	{"watcher/catchup.go", "changed := st.Mode&unix.S_IFMT == unix.S_IFDIR, time.Unix(", "changed := st.Mode&unix.S_IFMT == unix.S_IFDIR, time.Jumped("},
	{"watcher/catchup.go", "return time.Unix(st.Ctim.Unix())", "return time.Jumped(st.Ctim.Unix())"},
	{"rsyncer/survey.go", "return time.Unix(st.Ctim.Unix())", "return time.Jumped(st.Ctim.Unix())"},
}

const timeSource = goroot + "src/time/time.go"

// needsGo is for what is built anew.
func needsGo() string {
	if _, err := exec.LookPath("go"); err != nil {
		return "it takes the Go toolchain"
	}
	return ""
}

// jumpsAfter is how long after the rig is made the clock jumps: by then
// everything is at work.
const jumpsAfter = 15 * time.Second

// clockJumps is a fault of a clock that jumps while fastsync runs, which is killed
// and started again with the new time.
func clockJumps(what string, by time.Duration) fault {
	return fault{
		name: "the clock jumps a day " + what, promised: "nothing lost, not even over a restart", killed: true, settles: minute,
		patches: jumping, lacks: needsGo,
		set: func(r *rig) {
			sure(r)
			r.jumps = time.Now().Add(jumpsAfter)
			r.env = append(r.env, fmt.Sprintf("FASTSYNC_TEST_CLOCK=%d@%d", int(by.Seconds()), r.jumps.Unix()))
		},
		harm: func(ctx context.Context, r *rig) error {
			left := time.Until(r.jumps)
			if left < 0 && r.markers == 0 {
				return fmt.Errorf("everything was ready %s after the jump only", -left)
			}
			if err := lab.Pause(ctx, max(left, 0)+2*second); err != nil {
				return err
			}
			if err := r.othersArrive(ctx); err != nil {
				return err
			}
			return crash(theAgent)(ctx, r)
		},
		heal: again,
	}
}
