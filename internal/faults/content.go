package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
)

// A file of the churn is a row of records, each of which carries its own length
// and checksum: whoever reads one can tell whether it is whole. It is never
// empty.
const headLen = len("fs 00000000 0123456789abcdef\n")

// record is one with a body of some size, whose content differs from all others.
func record(rng *rand.Rand, size int) []byte {
	body := make([]byte, size)
	for i := 0; i < size; i += 8 {
		word := rng.Uint64()
		for j := i; j < min(i+8, size); j++ {
			body[j] = byte(word)
			word >>= 8
		}
	}
	return append(head(body), body...)
}

func head(body []byte) []byte {
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "fs %08x %s\n", len(body), hex.EncodeToString(sum[:8]))
}

// torn says what is wrong with a file; empty if it is whole.
func torn(data []byte) string {
	if len(data) == 0 {
		return "empty"
	}
	for at := 0; len(data) > 0; {
		var size int
		var sum string
		if len(data) < headLen {
			return fmt.Sprintf("a record at %d ends within its head", at)
		}
		if n, err := fmt.Sscanf(string(data[:headLen]), "fs %08x %16s\n", &size, &sum); n != 2 || err != nil {
			return fmt.Sprintf("no record at %d", at)
		}
		if len(data) < headLen+size {
			return fmt.Sprintf("a record at %d has %d bytes of %d", at, len(data)-headLen, size)
		}
		body := data[headLen : headLen+size]
		if !bytes.Equal(head(body), data[:headLen]) {
			return fmt.Sprintf("a record at %d has another checksum", at)
		}
		data, at = data[headLen+size:], at+headLen+size
	}
	return ""
}
