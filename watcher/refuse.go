package watcher

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// errRefused is why fanotify cannot watch a root, in words for an operator.
	errRefused  = errors.New("fanotify cannot watch this root")
	errOverflow = errors.New("the kernel dropped events")
	// errShared is of a file system that another host or program serves.
	errShared = errors.New("it is served by another")
)

// step is what was asked of the kernel.
type step int

const (
	stepInit step = iota
	stepMark
	stepHandle
)

// refuse says what an error of the kernel means at a step, for the kind of
// file system that the root is on.
func refuse(at step, err error, kind string) error {
	why := fmt.Sprintf("the kernel refuses the file system (%s)", kind)
	switch {
	case errors.Is(err, errShared):
		why = fmt.Sprintf("the root's file system (%s) belongs to another host or program, and its handles cannot be relied on", kind)
	case errors.Is(err, unix.EPERM) && at == stepHandle:
		why = "the capability CAP_DAC_READ_SEARCH is missing, or a filter of system calls forbids open_by_handle_at; run it as root, or see the systemd unit"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		why = "the capability CAP_SYS_ADMIN is missing, or a filter of system calls forbids fanotify; run it as root, or see the systemd unit"
	case errors.Is(err, unix.ENOSYS):
		why = "this kernel has no fanotify or no file handles; it takes Linux 5.9 or newer with CONFIG_FANOTIFY and CONFIG_FHANDLE"
	case errors.Is(err, unix.EINVAL):
		why = "this kernel is too old; it takes Linux 5.9 or newer"
	case errors.Is(err, unix.EMFILE) && at == stepInit:
		why = "this user has too many fanotify groups, or the process too many open files; raise sysctl fs.fanotify.max_user_groups"
	case errors.Is(err, unix.ENOSPC) && at == stepMark:
		why = "this user has too many fanotify marks; raise sysctl fs.fanotify.max_user_marks"
	case errors.Is(err, unix.EXDEV):
		why = fmt.Sprintf("the root is in a subvolume of its file system (%s), which cannot be marked as a whole", kind)
	case errors.Is(err, unix.ENODEV):
		why = fmt.Sprintf("the root's file system (%s) has no id, as NFS, FUSE and overlay often have none", kind)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, errGone):
		why = fmt.Sprintf("the root's file system (%s) has no file handles that can be opened, as overlay", kind)
	}
	return fmt.Errorf("%w: %s: %w", errRefused, why, err)
}

// unseen says which mounts below the root are not watched and what to do; it
// is empty for none.
func unseen(mounts []string) string {
	if len(mounts) == 0 {
		return ""
	}
	what := fmt.Sprintf("%q is", mounts[0])
	if n := len(mounts); n > 1 {
		what = fmt.Sprintf("%s are", quoted(mounts[:min(n, 3)]))
		if n > 3 {
			what = fmt.Sprintf("%s and %d more are", quoted(mounts[:3]), n-3)
		}
	}
	return what + " mounted below the root, and one fanotify mark does not cover other mounts; exclude or unmount it, or use --watch fsnotify"
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(q, ", ")
}
