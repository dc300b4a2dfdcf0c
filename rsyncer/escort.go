package rsyncer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/confine"
)

// escort is the remote shell of one confined rsync. It runs outside, since ssh
// reads keys that rsync must not be able to read. In its place rsync starts a
// small shell that tells its own number, takes no part in what follows, and ends
// with the exit code that it is told; ssh gets that shell's descriptors.
type escort struct {
	lane  fastsync.Lane
	words []string // of the remote shell, without what rsync adds
	told  *os.File // by the small shell
	tell  *os.File // to it
	ends  []*os.File
	ended chan struct{}

	// The mutex is for end, which must not leave what is just being started.
	mu      sync.Mutex
	over    bool
	process *os.Process
}

// standIn is the small shell: 3 is where it tells, 4 where it is told, and from 5
// on are copies of its standard descriptors, which it redirects meanwhile.
const standIn = `sh -c 'exec 5<&0 6>&1 7>&2; printf "%s\0" $$ $# "$@" >&3; read -r done <&4; ` +
	`exec 0<&- 1>&- 2>&- 5<&- 6>&- 7>&-; read -r code <&4; exit "${code:-255}"' fastsync`

const firstCopy = 5

// escorts tells whether the rsyncs here have remote shells.
func (r *Rsyncer) escorts() bool { return remote(r.farEnd()) && !r.direct() }

func hasShell(arg string) bool { return strings.HasPrefix(arg, "--rsh=") }

// newEscort makes of the arguments of a run those of one whose remote shell runs
// outside. It returns nil for a run without one.
func newEscort(lane fastsync.Lane, args []string) (*escort, []string, error) {
	at := slices.IndexFunc(args, hasShell)
	if at < 0 {
		return nil, args, nil
	}
	words, ok := split(strings.TrimPrefix(args[at], "--rsh="))
	if !ok {
		return nil, args, nil // rsync says what is wrong with it
	}
	e := &escort{lane: lane, words: words, ended: make(chan struct{})}
	var near [2]*os.File
	var err error
	if e.told, near[0], err = os.Pipe(); err != nil {
		return nil, args, err
	}
	if near[1], e.tell, err = os.Pipe(); err != nil {
		e.told.Close()
		near[0].Close()
		return nil, args, err
	}
	e.ends = near[:]
	args = slices.Clone(args)
	args[at] = "--rsh=" + standIn
	return e, args, nil
}

// run waits until rsync wants its remote shell, and then for that shell's end.
// group is rsync's.
func (e *escort) run(group int, note func(string)) {
	defer close(e.ended)
	defer e.tell.Close()
	defer e.told.Close()
	pid, args, err := e.asked()
	if err != nil {
		return // rsync has ended before it wanted one
	}
	code := 255
	err = e.start(group, pid, args)
	_, _ = fmt.Fprintln(e.tell) // we are through with the descriptors
	if err != nil {
		note(fmt.Sprintf("start the remote shell %s: %v", e.words[0], err))
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			code = 127
		}
	} else if state, err := e.process.Wait(); err == nil && state.ExitCode() >= 0 {
		code = state.ExitCode()
	}
	_, _ = fmt.Fprintln(e.tell, code)
}

// asked reads the small shell's number, and what rsync gave it to run.
func (e *escort) asked() (pid int, args []string, err error) {
	told := bufio.NewReader(e.told)
	field := func() (text string) {
		if err == nil {
			text, err = told.ReadString(0)
		}
		return strings.TrimSuffix(text, "\x00")
	}
	number := func() (n int) {
		text := field()
		if err == nil {
			n, err = strconv.Atoi(text)
		}
		return n
	}
	pid = number()
	for n := number(); n > 0 && err == nil; n-- {
		args = append(args, field())
	}
	return pid, args, err
}

// start starts the remote shell in rsync's group, with the small shell's
// descriptors.
func (e *escort) start(group, pid int, args []string) error {
	if of, err := syscall.Getpgid(pid); err != nil || of != group {
		return fmt.Errorf("process %d is not rsync's: %w", pid, err)
	}
	std, err := take(pid, firstCopy)
	if err != nil {
		return err
	}
	defer closeAll(std)
	cmd := exec.Command(e.words[0], slices.Concat(e.words[1:], args)...)
	cmd.Env = environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std[0], std[1], std[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return os.ErrProcessDone
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	e.process = cmd.Process
	giveWay(e.lane, group)
	return nil
}

// end ends the remote shell; its rsync is gone.
func (e *escort) end() {
	e.mu.Lock()
	e.over = true
	if e.process != nil {
		_ = e.process.Kill()
	}
	e.mu.Unlock()
	_ = e.told.Close()
	<-e.ended
}

// drop is for one whose rsync was never started.
func (e *escort) drop() {
	e.told.Close()
	e.tell.Close()
}

// take returns copies of three of another process's descriptors, which takes the
// right to trace it.
func take(pid, first int) (std []*os.File, err error) {
	of, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("look for process %d: %w", pid, err)
	}
	defer unix.Close(of)
	for i := range 3 {
		fd, err := unix.PidfdGetfd(of, first+i, 0)
		if err != nil {
			closeAll(std)
			return nil, fmt.Errorf("take a descriptor of process %d: %w", pid, err)
		}
		std = append(std, os.NewFile(uintptr(fd), "of rsync"))
	}
	return std, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// tryTaking tells why descriptors cannot be taken of a confined process.
func tryTaking() error {
	toRead, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer toRead.Close()
	cmd := exec.Command("cat")
	cmd.Env, cmd.Stdin = environment(), toRead
	if err := confine.Start(cmd, (&Rsyncer{rsync: "/"}).program()); err != nil {
		in.Close()
		return err
	}
	std, err := take(cmd.Process.Pid, 0)
	closeAll(std)
	in.Close()
	_, _ = io.Copy(io.Discard, toRead)
	_ = cmd.Wait()
	if err != nil {
		return fmt.Errorf("%w: the kernel must allow that for ssh to stay outside; is kernel.yama.ptrace_scope above 1?", err)
	}
	return nil
}
