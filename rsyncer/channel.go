package rsyncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

// channel is a shell at the other host that starts one rsync after the other
// over the shared ssh connection. A session for each run takes a login shell
// with its start-up files: 150 ms where the next rsync of a shell takes 14.
type channel struct {
	in, out *os.File // to and from the shell, or the rsync that it runs
	ssh     *os.Process
	served  chan struct{} // a value for each rsync that has ended there
	gone    chan struct{} // closed when the shell has ended
	user    atomic.Pointer[process]
	refused atomic.Bool // ssh logged in by itself: there was no room for a session
	nice    bool        // the host has the command
}

const (
	channelOpen   = "fastsync:open"
	channelServed = "fastsync:served"
	// longestOpen is how long a shell may take to answer.
	longestOpen = 10 * time.Second
	// lastWord is how long one end of a run may take after the other.
	lastWord = 2 * time.Second
)

// errNoShell is of a host that does not run what we ask for.
var errNoShell = errors.New("the host runs no shell for us, as with a forced command")

// farEnd is what the other host runs: rsync shuts down the sockets that it is
// given and makes its pipes non-blocking, so that the shell gets pipes through
// cat, and each rsync opens them anew by way of /proc.
const farEnd = `exec sh -c '{ { cat | while IFS= read -r c; do ` +
	`eval "$c" </proc/self/fd/0 >/proc/self/fd/1; echo ` + channelServed + ` >&2; ` +
	`done 3>&- | cat >&3; } 2>&1 | cat >&2; } 3>&1'`

// nearEnd is the remote shell of an rsync here: it gives the command to the
// channel, whose ends are 3 and 4, and then both their bytes to one another.
// rsync waits for its end, which nobody but this process knows: [connector].
const nearEnd = `sh -c 'shift; exec 5<&0; printf "%s\n" "$*" >&3; cat <&4 & r=$!; cat <&5 >&3 & w=$!; ` +
	`trap "kill $r $w; exit 0" TERM; exec 0<&- 1>&- 5<&-; wait $r; kill $w' fastsync`

// openChannel starts a shell over the live lane's connection and waits until it
// answers.
func (r *Rsyncer) openChannel(ctx context.Context) (*channel, error) {
	shared := r.shared(fastsync.Live)
	words := r.sshCommand()
	if shared == "" || len(words) == 0 {
		return nil, errors.New("there is no shared connection")
	}
	toRead, in, err := pipe()
	if err != nil {
		return nil, err
	}
	out, toWrite, err := pipe()
	if err != nil {
		toRead.Close()
		in.Close()
		return nil, err
	}
	c := &channel{in: in, out: out, served: make(chan struct{}, 1), gone: make(chan struct{})}
	stderr := &lines{each: c.heard}
	cmd := exec.Command(words[0], slices.Concat(strings.Fields(shared), words[1:], []string{farEnd})...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environment(), toRead, toWrite, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = lastWord // the ssh of the connection holds its messages' pipe too
	err = cmd.Start()
	toRead.Close()
	toWrite.Close() // or its end could not be seen
	if err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("start ssh: %w", err)
	}
	c.ssh = cmd.Process
	go func() {
		defer close(c.gone)
		_ = cmd.Wait()
	}()
	if err := c.greet(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// pipe makes one whose ends block, as programs that inherit them expect.
func pipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// greet waits for the shell to say a word, after whatever its start-up files say.
func (c *channel) greet(ctx context.Context) error {
	if _, err := c.in.WriteString("command -v nice; printf " + channelOpen + "\n"); err != nil {
		return fmt.Errorf("write to the shell: %w", err)
	}
	var said []byte
	buf := make([]byte, 4096)
	for end := time.Now().Add(longestOpen); !bytes.HasSuffix(said, []byte(channelOpen)); {
		fds := []unix.PollFd{{Fd: int32(c.out.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the shell: %w", err)
		} else if n <= 0 {
			if ctx.Err() != nil || time.Now().After(end) {
				return fmt.Errorf("it does not answer: %w", errNoShell)
			}
			continue
		}
		n, err := c.out.Read(buf)
		if said = append(said, buf[:n]...); err != nil || len(said) > maxLine {
			return errNoShell
		}
	}
	c.nice = bytes.HasSuffix(said, []byte("nice\n"+channelOpen))
	return c.awaitServed()
}

// heard takes a line of the shell's messages, or of the rsync's that it runs.
func (c *channel) heard(line string) {
	user := c.user.Load()
	switch {
	case strings.TrimSuffix(line, "\r") == channelServed:
		select {
		case c.served <- struct{}{}:
		default:
		}
		if user != nil {
			user.forsaken()
		}
	case sessionRefused(line):
		c.refused.Store(true)
	case user != nil:
		user.note(line)
	}
}

// awaitServed waits until the rsync there has ended, so that the shell reads again.
func (c *channel) awaitServed() error {
	select {
	case <-c.served:
		return nil
	case <-c.gone:
		return errors.New("the shell has ended")
	case <-time.After(lastWord):
		return errors.New("the rsync there does not end")
	}
}

func (c *channel) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// close ends the shell, and what it runs.
func (c *channel) close() {
	c.in.Close()
	c.out.Close()
	late := time.AfterFunc(lastWord/10, func() { _ = syscall.Kill(-c.ssh.Pid, syscall.SIGKILL) })
	<-c.gone
	late.Stop()
}

// through makes of the arguments of a run those of one through a channel.
func (r *Rsyncer) through(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		switch {
		case strings.HasPrefix(a, "--rsh="):
			args[i] = "--rsh=" + nearEnd
		case a == "--": // the channel leads to the host already
			for j := i + 1; j < len(args); j++ {
				if remote(args[j]) {
					args[j] = "channel:" + placeOf(args[j])
				}
			}
		}
	}
	return append([]string{"--debug=exit2"}, args...) // tells when rsync has done all but wait
}

// placeOf is the path of host:path.
func placeOf(end string) string {
	if i := strings.Index(end, "]:"); i >= 0 && strings.Contains(end[:i], "[") {
		return end[i+2:]
	}
	_, place, _ := strings.Cut(end, ":")
	return place
}

// channelled tells whether runs can go through channels: pushes to host:path over
// ssh that fastsync shares, with a path that is one line of a shell's. An rsync
// that pulls does not tell when it only waits.
func (r *Rsyncer) channelled() bool {
	return !r.pull && len(r.sshCommand()) > 0 && !daemon(r.target) && !strings.Contains(r.target, "\n")
}

// connector reads of a line of rsync's which process it waits for at its end.
func connector(line string) (pid int, ok bool) {
	if !strings.HasPrefix(line, "client_run") {
		return 0, false
	}
	_, text, found := strings.Cut(line, " waiting on ")
	if _, err := fmt.Sscanf(text, "%d", &pid); !found || err != nil {
		return 0, false
	}
	return pid, pid > 1
}

// ending tells whether a line is about how rsync ends, for which nobody asked.
func ending(line string) bool {
	return strings.HasPrefix(line, "[") && strings.Contains(line, "] _exit_cleanup(code=")
}
