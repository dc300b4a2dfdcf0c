package main

import (
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// peak is the most that was seen. The four maxima may be of different moments.
type peak struct {
	all, noRedis lab.Memory
	kinds        map[string]lab.Memory // when the sum of PSS was highest
}

// sample looks every so often at the memory of root and what belongs to it;
// the function that it returns ends that.
func sample(root int, every time.Duration) func() peak {
	stop, result := make(chan struct{}), make(chan peak)
	go func() {
		p := peak{kinds: map[string]lab.Memory{}}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			p.take(lab.MemoryByKind(root))
			select {
			case <-tick.C:
			case <-stop:
				result <- p
				return
			}
		}
	}()
	return func() peak { close(stop); return <-result }
}

func (p *peak) take(kinds map[string]lab.Memory) {
	var all lab.Memory
	for _, m := range kinds {
		all.Add(m)
	}
	redis := kinds["redis-server"]
	if all.PSS >= p.all.PSS {
		p.kinds = kinds
	}
	p.all.RSS, p.all.PSS = max(p.all.RSS, all.RSS), max(p.all.PSS, all.PSS)
	p.noRedis.RSS, p.noRedis.PSS = max(p.noRedis.RSS, all.RSS-redis.RSS), max(p.noRedis.PSS, all.PSS-redis.PSS)
}
