package watcher

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// record is one event as the kernel wrote it. Its slices are parts of the buffer.
type record struct {
	mask uint64
	// dir is the handle of the directory that it happened in, as bytes of
	// length, type and handle; nil where the kernel gives none.
	dir  []byte
	name []byte // in dir; empty or "." for dir itself
}

const (
	headSize   = unix.FAN_EVENT_METADATA_LEN
	infoHead   = 4                // type, padding, length
	handleHead = infoHead + 8 + 8 // and the file system's id, then length and type of the handle
	mostHandle = 128              // as MAX_HANDLE_SZ of the kernel
	largest    = headSize + 4 + handleHead + mostHandle + 256 + 8
	version    = 3 // FANOTIFY_METADATA_VERSION
)

var errGarbled = errors.New("the kernel's event has a form that this fastsync does not know")

// next takes the first event off b. It never reads beyond b, whatever is in it.
func next(b []byte) (r record, rest []byte, err error) {
	if len(b) < headSize {
		return r, nil, errGarbled
	}
	size := int(binary.NativeEndian.Uint32(b))
	head := int(binary.NativeEndian.Uint16(b[6:]))
	if size > len(b) || head < headSize || head > size || b[4] != version {
		return r, nil, errGarbled
	}
	r.mask = binary.NativeEndian.Uint64(b[8:])
	info, rest := b[head:size], b[size:]
	for len(info) > 0 {
		if len(info) < infoHead {
			return r, nil, errGarbled
		}
		n := int(binary.NativeEndian.Uint16(info[2:]))
		if n < infoHead || n > len(info) {
			return r, nil, errGarbled
		}
		if kind := info[0]; kind == unix.FAN_EVENT_INFO_TYPE_DFID_NAME || kind == unix.FAN_EVENT_INFO_TYPE_DFID {
			if r.dir, r.name, err = handleAndName(info[:n]); err != nil {
				return r, nil, err
			}
		}
		info = info[n:]
	}
	return r, rest, nil
}

// handleAndName reads one info record; a name ends at its first NUL.
func handleAndName(info []byte) (handle, name []byte, err error) {
	if len(info) < handleHead {
		return nil, nil, errGarbled
	}
	handle = info[infoHead+8:]
	n := binary.NativeEndian.Uint32(handle)
	if n > mostHandle || int(n) > len(info)-handleHead {
		return nil, nil, errGarbled
	}
	handle = handle[:8+n]
	name, _, _ = bytes.Cut(info[handleHead+n:], []byte{0})
	return handle, name, nil
}

// seen translates the mask of an event.
func seen(mask uint64) (w what) {
	for _, m := range [...]struct {
		bit  uint64
		what what
	}{
		{unix.FAN_CREATE, made}, {unix.FAN_MOVED_TO, made | movedIn}, {unix.FAN_DELETE, gone | removed}, {unix.FAN_MOVED_FROM, gone},
		{unix.FAN_MODIFY, written}, {unix.FAN_CLOSE_WRITE, closed}, {unix.FAN_ATTRIB, attrib},
	} {
		if mask&m.bit != 0 {
			w |= m.what
		}
	}
	return w
}
