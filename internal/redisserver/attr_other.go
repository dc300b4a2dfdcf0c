//go:build !linux

package redisserver

import "syscall"

// childAttr gives the child a process group of its own. Only Linux ends a child
// with its parent: elsewhere it outlives a killed fastsync.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
