package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// tool is one contestant.
type tool struct {
	name    string
	missing string // why it is left out; empty when it is not
	// delay is how long it may wait before it ships anything.
	delay time.Duration
	// share of the single files that it is given: one is as good as the next
	// where the figure is a delay of seconds.
	share   float64
	command func(j job) *exec.Cmd
}

// job is what a tool is to do.
type job struct {
	source  string
	targets []string // as rsync takes them
	rsh     string
	own     string // a folder for its own files
	listen  string // where fastsync's redis-server listens; empty is nowhere
}

const (
	fsnotify, fanotify = "fastsync fsnotify", "fastsync fanotify"
	published          = "fastsync published"
	loop               = "inotifywait loop"
	lsyncd0, lsyncd1   = "lsyncd delay 0", "lsyncd delay 1"
	lsyncdDefault      = "lsyncd as shipped"
)

// contestants returns the tools of these names that -tools lets through; a note
// says which are left out.
func (w *world) contestants(ctx context.Context, t *table, names ...string) []tool {
	all := []tool{
		{name: fsnotify, missing: lacking("bin/fastsync"), share: 1, command: fastsync("fsnotify")},
		{name: fanotify, missing: lackingFanotify(ctx), share: 1, command: fastsync("fanotify")},
		{name: published, missing: lacking("bin/fastsync"), share: 1, command: fastsync("off")},
		{name: loop, missing: lacking("inotifywait"), share: 0.5, command: inotifywait},
		{name: lsyncd0, missing: lacking("lsyncd"), share: 0.5, command: lsyncd(0)},
		{name: lsyncd1, missing: lacking("lsyncd"), delay: time.Second, share: 0.2, command: lsyncd(1)},
		{name: lsyncdDefault, missing: lacking("lsyncd"), delay: 15 * time.Second, share: 0.05, command: lsyncd(-1)},
	}
	var found []tool
	for _, one := range all {
		switch {
		case !slices.Contains(names, one.name) || !w.tools.MatchString(one.name):
		case one.missing != "":
			t.note("%s is left out: %s", one.name, one.missing)
		default:
			found = append(found, one)
		}
	}
	return found
}

func lacking(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return program + " is not there"
	}
	return ""
}

func lackingFanotify(ctx context.Context) string {
	if why := lacking("bin/fastsync"); why != "" {
		return why
	}
	out, _ := exec.CommandContext(ctx, "bin/fastsync", "run", "--help").CombinedOutput()
	if !strings.Contains(string(out), "fanotify") {
		return "this build does not know --watch fanotify"
	}
	return ""
}

func fastsync(watch string) func(j job) *exec.Cmd {
	return func(j job) *exec.Cmd {
		args := []string{"run", "--source", j.source, "--watch", watch, "--state-dir", j.own, "--redis-listen", j.listen, "--log-format", "json"}
		for i, t := range j.targets {
			args = append(args, "--target", fmt.Sprintf("t%d=%s", i+1, t))
		}
		if j.rsh != "" {
			args = append(args, "--rsh", j.rsh)
		}
		return exec.Command("bin/fastsync", args...)
	}
}

// lsyncd ships to the first target only; a negative delay is its own default.
func lsyncd(delay int) func(j job) *exec.Cmd {
	return func(j job) *exec.Cmd {
		wait := ""
		if delay >= 0 {
			wait = fmt.Sprintf("delay=%d, ", delay)
		}
		conf := fmt.Sprintf(`settings{nodaemon=true, logfile="%s/log", statusFile="%s/status"}
sync{default.rsync, source="%s", target="%s", %sdelete=false, rsync={archive=true, rsh="%s"}}
`, j.own, j.own, j.source, j.targets[0], wait, j.rsh)
		return exec.Command("sh", "-c", `printf %s "$1" > "$2/conf"; exec lsyncd "$2/conf"`, "sh", conf, j.own)
	}
}

// inotifywait is what is usually pasted from the web, with the one improvement
// that it drains what came while rsync ran.
func inotifywait(j job) *exec.Cmd {
	return exec.Command("bash", "-c", `inotifywait -q -m -r -e close_write,create,delete,move --format %w%f "$1" |
while read -r _; do
  while read -r -t 0.05 _; do :; done
  rsync -a ${3:+-e "$3"} "$1/" "$2/"
done`, "bash", j.source, j.targets[0], j.rsh)
}
