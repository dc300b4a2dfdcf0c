package watcher

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// encoded is an event as the kernel writes it, with one info record.
func encoded(mask uint64, kind byte, handle []byte, name string) []byte {
	info := make([]byte, handleHead)
	info[0] = kind
	binary.NativeEndian.PutUint32(info[12:], uint32(len(handle)))
	binary.NativeEndian.PutUint32(info[16:], 1)
	info = append(append(append(info, handle...), name...), 0)
	for len(info)%4 != 0 {
		info = append(info, 0)
	}
	binary.NativeEndian.PutUint16(info[2:], uint16(len(info)))
	head := make([]byte, headSize)
	binary.NativeEndian.PutUint32(head, uint32(headSize+len(info)))
	head[4] = version
	binary.NativeEndian.PutUint16(head[6:], headSize)
	binary.NativeEndian.PutUint64(head[8:], mask)
	return append(head, info...)
}

func TestNextReadsWhatTheKernelWrites(t *testing.T) {
	b := encoded(unix.FAN_CREATE|unix.FAN_ONDIR, unix.FAN_EVENT_INFO_TYPE_DFID_NAME, []byte("handle12"), "a name")
	b = append(b, encoded(unix.FAN_ATTRIB, unix.FAN_EVENT_INFO_TYPE_DFID, []byte("other"), "")...)
	r, rest, err := next(b)
	if err != nil || r.mask != unix.FAN_CREATE|unix.FAN_ONDIR || string(r.dir[8:]) != "handle12" || string(r.name) != "a name" {
		t.Errorf("first: %v %q %q %v", r.mask, r.dir, r.name, err)
	}
	r, rest, err = next(rest)
	if err != nil || r.mask != unix.FAN_ATTRIB || string(r.dir[8:]) != "other" || len(r.name) != 0 || len(rest) != 0 {
		t.Errorf("second: %v %q %q %v, %d bytes left", r.mask, r.dir, r.name, err, len(rest))
	}
}

func TestNextLeavesOtherRecordsOut(t *testing.T) {
	r, _, err := next(encoded(unix.FAN_MODIFY, unix.FAN_EVENT_INFO_TYPE_PIDFD, []byte("x"), "f"))
	if err != nil || r.dir != nil || r.name != nil {
		t.Errorf("%+v %v", r, err)
	}
}

func TestNextRefusesWhatIsCutOrLies(t *testing.T) {
	good := encoded(unix.FAN_CREATE, unix.FAN_EVENT_INFO_TYPE_DFID_NAME, []byte("handle12"), "name")
	for n := range good {
		if _, _, err := next(good[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken as an event", n, len(good))
		}
	}
	for what, at := range map[string]int{"length": 0, "version": 4, "length of the head": 6, "length of the record": headSize + 2, "length of the handle": headSize + 12} {
		bad := bytes.Clone(good)
		bad[at] = 0xff
		if _, _, err := next(bad); err == nil {
			t.Errorf("a wrong %s is taken", what)
		}
	}
}

func FuzzNext(f *testing.F) {
	f.Add(encoded(unix.FAN_CREATE, unix.FAN_EVENT_INFO_TYPE_DFID_NAME, []byte("handle12"), "name"))
	f.Add(encoded(unix.FAN_Q_OVERFLOW, unix.FAN_EVENT_INFO_TYPE_DFID, nil, ""))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			r, rest, err := next(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) || r.dir != nil && len(r.dir) < 8 || bytes.IndexByte(r.name, 0) >= 0 {
				t.Fatalf("%d bytes left of %d: %+v", len(rest), len(b), r)
			}
			b = rest
		}
	})
}

func TestSeen(t *testing.T) {
	for mask, want := range map[uint64]what{
		unix.FAN_CREATE: made, unix.FAN_MOVED_TO: made | movedIn, unix.FAN_MOVED_FROM: gone, unix.FAN_DELETE: gone | removed,
		unix.FAN_MODIFY: written, unix.FAN_CLOSE_WRITE | unix.FAN_CREATE: made | closed, unix.FAN_ATTRIB | unix.FAN_ONDIR: attrib,
	} {
		if got := seen(mask); got != want {
			t.Errorf("seen(%#x) = %b, want %b", mask, got, want)
		}
	}
}
