package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// hertz is USER_HZ, the same on every Linux.
const hertz = 100

func total(kinds map[string]time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range kinds {
		sum += d
	}
	return sum
}

// machineBusy is the time that all cores together were busy since the start of
// the machine, in steps of 10 ms.
func machineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(strings.TrimPrefix(line, "cpu ")) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		if i < 8 && i != 3 && i != 4 { // not idle, waiting for a disk, nor what counts twice
			busy += time.Duration(n) * time.Second / hertz
		}
	}
	return busy, nil
}
