package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/fastsync/fastsync/internal/lab"
)

const singleSize = 50_000

// limits are figures to reach; zero is none.
type limits struct{ p50, p99 float64 }

func singleSSH(ctx context.Context, w *world) ([]table, error) {
	return w.singles(ctx, "Single files over ssh", w.direct(), limits{6, 15}, fsnotify, fanotify, loop, lsyncd0, lsyncd1, lsyncdDefault)
}

func singleFar(ctx context.Context, w *world) ([]table, error) {
	r, err := w.distant()
	if err != nil {
		return nil, err
	}
	return w.singles(ctx, "Single files over ssh, 40 ms round trip", r, limits{68, 80}, fsnotify, fanotify, loop, lsyncd0)
}

func singleDaemon(ctx context.Context, w *world) ([]table, error) {
	r, err := w.module(ctx)
	if err != nil {
		return nil, err
	}
	return w.singles(ctx, "Single files to an rsync daemon", r, limits{6, 15}, fsnotify, fanotify, loop)
}

func singleLocal(ctx context.Context, w *world) ([]table, error) {
	return w.singles(ctx, "Single files to a local folder", local(), limits{6, 15}, fsnotify, fanotify, loop)
}

func singlePublished(ctx context.Context, w *world) ([]table, error) {
	return w.singles(ctx, "Single files over ssh, published by the CMS", w.direct(), limits{6, 0}, published)
}

// latencies are of one tool's files. What did not come counts as the patience.
type latencies struct {
	name  string
	all   []time.Duration
	begun []time.Time // when each was closed
	late  int
	// clear and slowed are those of all during which the machine ran and stood
	// still, as far as that could be seen.
	clear, slowed []time.Duration
}

func (l *latencies) took(closed time.Time, d time.Duration) {
	l.all, l.begun = append(l.all, d), append(l.begun, closed)
}

// stood sorts all, once, by when the machine stood still. Where nobody could
// look, it ran.
func (l *latencies) stood(still []span, _ bool) {
	for i, d := range l.all {
		on := span{l.begun[i], l.begun[i].Add(d)}
		if slices.ContainsFunc(still, on.meets) {
			l.slowed = append(l.slowed, d)
		} else {
			l.clear = append(l.clear, d)
		}
	}
}

// and takes another's files in.
func (l *latencies) and(o latencies) {
	l.all, l.begun, l.late = append(l.all, o.all...), append(l.begun, o.begun...), l.late+o.late
	l.clear, l.slowed = append(l.clear, o.clear...), append(l.slowed, o.slowed...)
}

func (w *world) singles(ctx context.Context, title string, r route, reach limits, names ...string) ([]table, error) {
	t := table{
		title: title,
		how:   "50 kB each, 150 to 600 ms apart; from close(2) to whole at the target, in ms.",
		head:  []string{"tool", "files", "p50", "p95", "p99", "max", "× fastsync's p50"},
	}
	var all []latencies
	var faults []error
	for _, one := range w.contestants(ctx, &t, names...) {
		l, err := w.single(ctx, one, r)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			t.note("%s could not be measured", one.name)
			faults = append(faults, err)
			continue
		}
		all = append(all, l)
	}
	t.latencies(all)
	for _, l := range all {
		if isFastsync(l.name) {
			t.reach(l, reach)
		}
	}
	return []table{t}, errors.Join(faults...)
}

func isFastsync(name string) bool { return name == fsnotify || name == fanotify || name == published }

// latencies adds a row for each tool, the first of which is the measure.
func (t *table) latencies(all []latencies) {
	for _, l := range all {
		t.latency(l, quantile(l.all, 0.5)/quantile(all[0].all, 0.5))
	}
}

func (t *table) latency(l latencies, ratio float64) {
	t.add(l.name, strconv.Itoa(len(l.all)), number(quantile(l.all, 0.5)), number(quantile(l.all, 0.95)), number(quantile(l.all, 0.99)),
		number(quantile(l.all, 1)), number(ratio))
	if l.late > 0 {
		t.note("%s: %d files did not come in time", l.name, l.late)
	}
	if len(l.slowed) > 0 {
		t.note("%s: %d of %d files were on their way while the machine itself stood still", l.name, len(l.slowed), len(l.all))
	}
}

func (t *table) reach(l latencies, reach limits) {
	t.goal(l.name+" p50", reach.p50, quantile(l.all, 0.5), "ms")
	if reach.p99 > 0 {
		t.goal(l.name+" p99", reach.p99, quantile(l.all, 0.99), "ms")
	}
}

// single gives a tool on fresh folders its share of single files.
func (w *world) single(ctx context.Context, t tool, r route) (latencies, error) {
	p, err := w.folders()
	if err != nil {
		return latencies{}, err
	}
	listen := ""
	if t.name == published {
		port, err := lab.FreePort()
		if err != nil {
			return latencies{}, err
		}
		listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	c, err := w.start(t, r, p, listen)
	if err != nil {
		return latencies{}, err
	}
	n := max(2, int(float64(w.sizes.files)*t.share))
	var l latencies
	if listen != "" {
		hangUp, err := c.publishTo(ctx, listen)
		if err != nil {
			return l, c.finish(err)
		}
		defer hangUp()
	}
	if err = c.ready(ctx, r.rest); err == nil {
		l, err = c.feed(ctx, n, "single")
	}
	return l, c.finish(err)
}

// feed writes single files and waits for each.
func (c *contest) feed(ctx context.Context, n int, prefix string) (latencies, error) {
	return c.feedWhile(ctx, n, prefix, func() bool { return true })
}

// feedWhile does so for as long as something else goes on: a file counts if it
// does from before its write until after its arrival.
func (c *contest) feedWhile(ctx context.Context, n int, prefix string, goesOn func() bool) (l latencies, err error) {
	l.name = c.tool.name
	if err := c.look(singleSize, 0); err != nil {
		return l, err
	}
	defer c.unlook()
	data := make([]byte, singleSize)
	still := watchStill()
	defer func() { l.stood(still()) }()
	for i := range n {
		if err := lab.Pause(ctx, 150*time.Millisecond+time.Duration(rand.Int64N(int64(450*time.Millisecond)))); err != nil {
			return l, err
		}
		if !goesOn() {
			break
		}
		name := fmt.Sprintf("%s-%d", prefix, i)
		closed, err := c.write(name, data)
		if err != nil {
			return l, err
		}
		switch err := c.seen.wait(ctx, c.w.sizes.patience, c.Ended); {
		case err == nil && !goesOn():
		case errors.Is(err, lab.ErrLate):
			l.late += len(c.seen.forget())
			l.took(closed, c.w.sizes.patience)
		case err != nil:
			return l, err
		default:
			l.took(closed, max(0, c.seen.when(name).Sub(closed)))
		}
	}
	return l, nil
}

// publishTo makes the one connection by which a CMS tells of each closed file.
func (c *contest) publishTo(ctx context.Context, address string) (hangUp func(), err error) {
	client := redis.NewClient(&redis.Options{
		Addr: address, PoolSize: 1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	hangUp = func() { _ = client.Close() }
	err = lab.Until(ctx, 20*time.Second, 50*time.Millisecond, func() bool { return client.Ping(ctx).Err() == nil || c.over() })
	if err != nil || c.over() {
		hangUp()
		return nil, fmt.Errorf("reach its redis-server: %w", errors.Join(err, errEnded))
	}
	c.told = func(path string) error { return client.Publish(ctx, "new_files", path).Err() }
	return hangUp, nil
}
