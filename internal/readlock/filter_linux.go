//go:build linux && (amd64 || arm64)

package readlock

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where a filter finds what it decides by, in bytes, on a little-endian machine.
const (
	atCall      = 0
	atMachine   = 4
	atArguments = 16
)

// plainRead are the flags that are all off where a file is opened to be read: a
// library or a folder is opened with one of them on.
const plainRead = unix.O_ACCMODE | unix.O_CREAT | unix.O_DIRECTORY | unix.O_PATH | unix.O_CLOEXEC

// filter asks for each plain read by openat, and by open where the machine has it.
func filter() []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
	}
	result := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	return []unix.SockFilter{
		load(atMachine),
		equal(machine, 0, 8), // of another one numbers mean other calls
		load(atCall),
		equal(unix.SYS_OPENAT, 0, 2),
		load(atArguments + 8*2),
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 2},
		equal(sysOpen, 0, 3),
		load(atArguments + 8*1),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: plainRead},
		equal(0, 1, 0),
		result(unix.SECCOMP_RET_ALLOW),
		result(unix.SECCOMP_RET_USER_NOTIF),
	}
}

// Install puts the calling thread, and all that it starts from then on, under a
// lock, which [Lock.Serve] has to serve until [Lock.Close]. The thread must be locked, have given up
// new rights (PR_SET_NO_NEW_PRIVS), and end soon: nothing lifts it.
func Install(root string) (*Lock, error) {
	program := filter()
	all := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&all)))
	switch {
	case errno == unix.EBUSY:
		return nil, errors.New("another program listens to our system calls already, as a container's runtime may")
	case errno != 0:
		return nil, fmt.Errorf("install a seccomp filter that asks us: %w", errno)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(int(fd))
		return nil, fmt.Errorf("make an event descriptor: %w", err)
	}
	return &Lock{root: strings.TrimSuffix(root, "/"), listener: int(fd), wake: wake, pids: map[int]int{}}, nil
}
