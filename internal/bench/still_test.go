package main

import (
	"slices"
	"testing"
	"time"
)

func TestTheMachineStandsStillWhenAllCoresAreGone(t *testing.T) {
	at := func(begin, end int) span {
		return span{time.UnixMilli(int64(begin)), time.UnixMilli(int64(end))}
	}
	got := atOnce([][]span{
		{at(0, 30), at(100, 200), at(300, 350), at(400, 420)},
		{at(15, 40), at(60, 90), at(190, 199), at(310, 345)},
	})
	if want := []span{at(15, 30), at(310, 345)}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if all := sum(got); all != 50*time.Millisecond {
		t.Errorf("sum %v", all)
	}
}

// A file counts as slowed if it was on its way at such a time.
func TestFilesThatAStillMachineSlowed(t *testing.T) {
	begun := time.UnixMilli(0)
	var l latencies
	for _, ms := range []int{5, 6, 80, 7} {
		l.took(begun, time.Duration(ms)*time.Millisecond)
		begun = begun.Add(200 * time.Millisecond)
	}
	l.stood([]span{{time.UnixMilli(410), time.UnixMilli(475)}, {time.UnixMilli(550), time.UnixMilli(560)}}, true)
	if len(l.slowed) != 1 || l.slowed[0] != 80*time.Millisecond || len(l.clear) != 3 {
		t.Errorf("slowed %v, not %v", l.slowed, l.clear)
	}
}

func TestWatchStillEnds(t *testing.T) {
	end := watchStill()
	if _, ok := end(); !ok {
		t.Skip("no real-time priority here")
	}
}
