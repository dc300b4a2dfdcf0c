//go:build linux

package readlock

import "golang.org/x/sys/unix"

const (
	machine = unix.AUDIT_ARCH_AARCH64
	sysOpen = unix.SYS_OPENAT // it has no open
)
