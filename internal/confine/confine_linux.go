package confine

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Start starts a command as its own Start does, confined to files. What has to
// do with a file that files do not name ends there with EACCES. Each of also is
// called before, on the thread that starts it, and what that does to the thread
// holds for the command.
func Start(cmd *exec.Cmd, files Files, also ...func() error) error {
	done := make(chan error)
	go func() {
		// Landlock confines one thread, and what a thread starts is confined as it
		// is. Nothing lifts that, so the thread is never unlocked and ends with this.
		runtime.LockOSThread()
		err := restrict(files)
		for _, do := range append(also, cmd.Start) {
			if err == nil {
				err = do()
			}
		}
		done <- err
	}()
	return <-done
}

// Version is the kernel's version of Landlock, or says why there is none. Since 2
// files move between directories, since 3 truncate(2) is held back.
func Version() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(version), nil
	case unix.ENOSYS:
		return 0, fmt.Errorf("%w: Linux 5.13 and later have it", ErrUnsupported)
	case unix.EOPNOTSUPP:
		return 0, fmt.Errorf("%w turned on: add landlock to lsm= of the kernel's command line", ErrUnsupported)
	}
	return 0, fmt.Errorf("%w for us (%w): a filter of system calls must allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self", ErrUnsupported, errno)
}

const (
	reading = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writing = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	// ofFiles is what makes sense for what is no directory.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// rights are those that this version of Landlock holds back.
func rights(version int) uint64 {
	all := uint64(reading | writing)
	if version >= 2 {
		all |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		all |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	return all
}

// restrict confines the thread that it runs on, for good.
func restrict(files Files) error {
	version, err := Version()
	if err != nil {
		return err
	}
	all := rights(version)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all}
	// The first field is all that the first version knows.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for _, name := range files.Read {
		if err := allow(int(fd), name, reading); err != nil {
			return err
		}
	}
	for _, name := range files.Write {
		if err := allow(int(fd), name, all); err != nil {
			return err
		}
	}
	// The kernel asks this of all but root: no setuid program may be confined.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new rights: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("confine a thread by Landlock: %w", errno)
	}
	return nil
}

// allow adds what may be done with a file, or with a folder and all below it.
func allow(ruleset int, name string, access uint64) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allow %s by Landlock: %w", name, errno)
	}
	return nil
}
