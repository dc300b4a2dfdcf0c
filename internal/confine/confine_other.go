//go:build !linux

package confine

import "os/exec"

// Start returns ErrUnsupported.
func Start(*exec.Cmd, Files, ...func() error) error { return ErrUnsupported }

// Version returns ErrUnsupported.
func Version() (int, error) { return 0, ErrUnsupported }
