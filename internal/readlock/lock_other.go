//go:build !linux || (!amd64 && !arm64)

package readlock

// Lock is never made here.
type Lock struct{}

// Install returns ErrUnsupported.
func Install(string) (*Lock, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Lock) Close() {}

// Serve does nothing.
func (*Lock) Serve(Told) {}
