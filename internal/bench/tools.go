package main

import (
	"fmt"
	"os/exec"
)

// tool is one contestant.
type tool struct {
	name    string
	missing string // the program that it lacks
	// command starts it in the foreground; dir is a folder of its own.
	command func(source, target, dir string) *exec.Cmd
}

func (w *world) tools() []tool {
	return []tool{
		{"fastsync", lacking("bin/fastsync"), w.fastsync},
		{"lsyncd delay 0", lacking("lsyncd"), w.lsyncd(0)},
		{"lsyncd delay 1", lacking("lsyncd"), w.lsyncd(1)},
		{"inotifywait loop", lacking("inotifywait"), w.loop},
	}
}

func lacking(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return program
	}
	return ""
}

func (w *world) fastsync(source, target, dir string) *exec.Cmd {
	return exec.Command("bin/fastsync", "run", "--source", source, "--target", "t=127.0.0.1:"+target,
		"--rsh", w.rsh, "--state-dir", dir, "--redis-listen", "")
}

func (w *world) lsyncd(delay int) func(string, string, string) *exec.Cmd {
	return func(source, target, dir string) *exec.Cmd {
		conf := fmt.Sprintf(`settings{nodaemon=true, logfile="%s/log", statusFile="%s/status"}
sync{default.rsync, source="%s", target="127.0.0.1:%s", delay=%d, delete=false, rsync={archive=true, rsh="%s"}}
`, dir, dir, source, target, delay, w.rsh)
		return exec.Command("sh", "-c", `printf %s "$1" > "$2/conf"; exec lsyncd "$2/conf"`, "sh", conf, dir)
	}
}

// loop is what is usually pasted from the web, with the one improvement that
// it drains what came while rsync ran.
func (w *world) loop(source, target, _ string) *exec.Cmd {
	return exec.Command("bash", "-c", `inotifywait -q -m -r -e close_write,create,delete,move --format %w%f "$1" |
while read -r _; do
  while read -r -t 0.05 _; do :; done
  rsync -a -e "$3" "$1/" "127.0.0.1:$2/"
done`, "bash", source, target, w.rsh)
}
