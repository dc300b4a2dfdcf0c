package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one line of /proc.
type process struct {
	pid, parent, session int
	kind                 string        // the name of its program
	ended                time.Duration // CPU of its children that it has waited for
}

// hertz is USER_HZ, the same on every Linux.
const hertz = 100

// parseStat reads /proc/PID/stat; the name may have spaces and parentheses in it.
func parseStat(text string) (process, bool) {
	begin, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if begin < 1 || end < begin {
		return process{}, false
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 22 {
		return process{}, false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	p := process{pid: number(strings.TrimSpace(text[:begin])), kind: text[begin+1 : end], parent: number(fields[1]), session: number(fields[3])}
	p.ended = time.Duration(number(fields[13])+number(fields[14])) * time.Second / hertz
	return p, true
}

// processes are the descendants of root and all of its session, which those keep
// whose parent has ended.
func processes(root int) []process {
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if text, err := os.ReadFile(file); err == nil {
			if p, ok := parseStat(string(text)); ok {
				all[p.pid] = p
			}
		}
	}
	var found []process
	for _, p := range all {
		for at := p; at.pid > 1; at = all[at.parent] {
			if at.pid == root || at.session == root {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// memory is resident: rss counts each page in full, pss its share of it.
type memory struct{ rss, pss int64 }

func (m *memory) add(o memory) { m.rss += o.rss; m.pss += o.pss }

// parseRollup reads /proc/PID/smaps_rollup.
func parseRollup(text []byte) (memory, bool) {
	var m memory
	var seen int
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		switch {
		case err != nil:
		case fields[0] == "Rss:":
			m.rss, seen = n<<10, seen+1
		case fields[0] == "Pss:":
			m.pss, seen = n<<10, seen+1
		}
	}
	return m, seen == 2
}

// memoryByKind is of root and what belongs to it, now.
func memoryByKind(root int) map[string]memory {
	kinds := map[string]memory{}
	for _, p := range processes(root) {
		if m, ok := memoryOf(p.pid); ok && !sameMemory(p.pid, p.parent) {
			sum := kinds[p.kind]
			sum.add(m)
			kinds[p.kind] = sum
		}
	}
	return kinds
}

// sameMemory tells whether two processes have one memory: a child of fastsync
// does until it has become another program, and would count all of it again.
func sameMemory(a, b int) bool {
	const kcmpVM = 1
	differ, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && differ == 0
}

func memoryOf(pid int) (memory, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return memory{}, false
	}
	return parseRollup(text)
}

const endedChildren = "(ended)"

// cpuByKind is what root and what belongs to it has used since it began. What a
// child used is its parent's, as endedChildren, once it has ended and been waited for.
func cpuByKind(root int) map[string]time.Duration {
	kinds := map[string]time.Duration{}
	for _, p := range processes(root) {
		kinds[p.kind] += cpuOf(p.pid)
		kinds[endedChildren] += p.ended
	}
	return kinds
}

// cpuOf sums utime and stime of all threads as the scheduler counts them, in
// nanoseconds: the ticks of /proc/PID/stat are too coarse for an idle process.
func cpuOf(pid int) time.Duration {
	var sum time.Duration
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/[0-9]*/schedstat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		first, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(first, 10, 64)
		sum += time.Duration(n)
	}
	return sum
}

func total(kinds map[string]time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range kinds {
		sum += d
	}
	return sum
}

// machineBusy is the time that all cores together were busy since the start of
// the machine, in steps of 10 ms.
func machineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(strings.TrimPrefix(line, "cpu ")) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		if i < 8 && i != 3 && i != 4 { // not idle, waiting for a disk, nor what counts twice
			busy += time.Duration(n) * time.Second / hertz
		}
	}
	return busy, nil
}
