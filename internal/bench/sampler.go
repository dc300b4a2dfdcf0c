package main

import "time"

// peak is the most that was seen. The four maxima may be of different moments.
type peak struct {
	all, noRedis memory
	kinds        map[string]memory // when the sum of PSS was highest
}

// sample looks every so often at the memory of root and what belongs to it;
// the function that it returns ends that.
func sample(root int, every time.Duration) func() peak {
	stop, result := make(chan struct{}), make(chan peak)
	go func() {
		p := peak{kinds: map[string]memory{}}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			p.take(memoryByKind(root))
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

func (p *peak) take(kinds map[string]memory) {
	var all memory
	for _, m := range kinds {
		all.add(m)
	}
	redis := kinds["redis-server"]
	if all.pss >= p.all.pss {
		p.kinds = kinds
	}
	p.all.rss, p.all.pss = max(p.all.rss, all.rss), max(p.all.pss, all.pss)
	p.noRedis.rss, p.noRedis.pss = max(p.noRedis.rss, all.rss-redis.rss), max(p.noRedis.pss, all.pss-redis.pss)
}
