package lab

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one line of /proc.
type Process struct {
	PID, Parent, Session int
	Kind                 string        // the name of its program
	Ended                time.Duration // CPU of its children that it has waited for
}

// hertz is USER_HZ, the same on every Linux.
const hertz = 100

// parseStat reads /proc/PID/stat; the name may have spaces and parentheses in it.
func parseStat(text string) (Process, bool) {
	begin, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if begin < 1 || end < begin {
		return Process{}, false
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 22 {
		return Process{}, false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	p := Process{PID: number(strings.TrimSpace(text[:begin])), Kind: text[begin+1 : end], Parent: number(fields[1]), Session: number(fields[3])}
	p.Ended = time.Duration(number(fields[13])+number(fields[14])) * time.Second / hertz
	return p, true
}

// Processes are the descendants of root and all of its session, which those keep
// whose parent has ended.
func Processes(root int) []Process {
	all := map[int]Process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if text, err := os.ReadFile(file); err == nil {
			if p, ok := parseStat(string(text)); ok {
				all[p.PID] = p
			}
		}
	}
	var found []Process
	for _, p := range all {
		for at := p; at.PID > 1; at = all[at.Parent] {
			if at.PID == root || at.Session == root {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// Memory is resident, in bytes: RSS counts each page in full, PSS its share of it.
type Memory struct{ RSS, PSS int64 }

// Add sums two.
func (m *Memory) Add(o Memory) { m.RSS += o.RSS; m.PSS += o.PSS }

// parseRollup reads /proc/PID/smaps_rollup.
func parseRollup(text []byte) (Memory, bool) {
	var m Memory
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
			m.RSS, seen = n<<10, seen+1
		case fields[0] == "Pss:":
			m.PSS, seen = n<<10, seen+1
		}
	}
	return m, seen == 2
}

// MemoryByKind is of root and what belongs to it, now.
func MemoryByKind(root int) map[string]Memory {
	kinds := map[string]Memory{}
	for _, p := range Processes(root) {
		if m, ok := MemoryOf(p.PID); ok && !SameMemory(p.PID, p.Parent) {
			sum := kinds[p.Kind]
			sum.Add(m)
			kinds[p.Kind] = sum
		}
	}
	return kinds
}

// SameMemory tells whether two processes have one memory: a child of fastsync
// does until it has become another program, and would count all of it again.
func SameMemory(a, b int) bool {
	const kcmpVM = 1
	differ, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && differ == 0
}

// MemoryOf is that of one process; false when it has gone.
func MemoryOf(pid int) (Memory, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return Memory{}, false
	}
	return parseRollup(text)
}

// EndedChildren is the kind of what children used that were waited for.
const EndedChildren = "(ended)"

// CPUByKind is what root and what belongs to it has used since it began. What a
// child used is its parent's, as EndedChildren, once it has ended and been waited for.
func CPUByKind(root int) map[string]time.Duration {
	kinds := map[string]time.Duration{}
	for _, p := range Processes(root) {
		kinds[p.Kind] += CPUOf(p.PID)
		kinds[EndedChildren] += p.Ended
	}
	return kinds
}

// CPUOf sums utime and stime of all threads as the scheduler counts them, in
// nanoseconds: the ticks of /proc/PID/stat are too coarse for an idle process.
func CPUOf(pid int) time.Duration {
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
