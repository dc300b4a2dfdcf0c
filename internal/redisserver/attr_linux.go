package redisserver

import "syscall"

// childAttr gives the child a process group of its own, so that a Ctrl-C at the
// terminal leaves it up until fastsync has finished with it, and lets the
// kernel end it when fastsync is killed. SIGTERM, so that it still syncs its file.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
