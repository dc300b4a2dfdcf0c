//go:build linux

package readlock

import "golang.org/x/sys/unix"

const (
	machine = unix.AUDIT_ARCH_X86_64
	sysOpen = 2
)
