package main

import (
	"testing"

	"github.com/fastsync/fastsync/internal/lab"
)

func TestPeakKeepsTheKindsOfTheHighestMoment(t *testing.T) {
	p := peak{}
	p.take(map[string]lab.Memory{"fastsync": {RSS: 50, PSS: 40}, "redis-server": {RSS: 20, PSS: 10}})
	p.take(map[string]lab.Memory{"fastsync": {RSS: 70, PSS: 30}, "redis-server": {RSS: 5, PSS: 5}})
	if p.all != (lab.Memory{RSS: 75, PSS: 50}) || p.noRedis != (lab.Memory{RSS: 70, PSS: 40}) || p.kinds["fastsync"].PSS != 40 {
		t.Errorf("got %+v", p)
	}
}
