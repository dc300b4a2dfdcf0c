package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	vocabulary "github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/lab"
)

// memoryBurst looks at fastsync's memory while a large burst goes through it.
func memoryBurst(ctx context.Context, w *world) ([]table, error) {
	b := crowd{files: w.sizes.crowd, dirs: w.sizes.crowdDirs, size: 1000}
	const how = "All of fastsync's processes on this side, over ssh, looked at every 100 ms, in MB. PSS gives each process its share of a page that several have. The rows of kinds are of the moment with the highest sum of PSS; a sum of RSS may be of another."
	head := []string{"tool", "processes", "RSS", "PSS"}
	fresh := table{title: fmt.Sprintf("Peak memory during a burst of %d new files of 1 kB in %d new directories", b.files, b.dirs), how: how, head: head}
	again := table{
		title: fmt.Sprintf("Peak memory while the same %d files change, each of which is an event", b.files), head: head,
		how: how + " The directories are too old to be told as listings by then.",
	}
	for _, one := range w.contestants(ctx, &fresh, fsnotify, fanotify) {
		p, err := w.folders()
		if err != nil {
			return nil, err
		}
		r := w.direct()
		c, err := w.start(one, r, p, "")
		if err != nil {
			return nil, err
		}
		if err = c.ready(ctx, r.rest); err == nil {
			err = c.memoryOfBurst(ctx, b, &fresh)
		}
		if err == nil {
			err = lab.Pause(ctx, 2*r.rest)
		}
		if b := b; err == nil {
			b.size++ // by which their arrival is seen
			err = c.memoryOfBurst(ctx, b, &again)
		}
		if err = c.finish(err); err != nil {
			return []table{fresh, again}, err
		}
	}
	return []table{fresh, again}, nil
}

func (c *contest) memoryOfBurst(ctx context.Context, b crowd, t *table) error {
	before, err := c.events(ctx)
	if err != nil {
		return err
	}
	most := sample(c.Leader, 100*time.Millisecond)
	took, late, err := c.crowd(ctx, b)
	found := most()
	if err != nil {
		return err
	}
	after, err := c.events(ctx)
	if err != nil {
		return err
	}
	t.memory(c.tool.name, found)
	t.note("%s: all there after %s s, %d files late, %d events", c.tool.name, seconds(took), late, after-before)
	t.goal(c.tool.name+", all processes, PSS", 80, float64(found.all.PSS)/1e6, "MB")
	return nil
}

// events is how many have gone through fastsync's own Redis.
func (c *contest) events(ctx context.Context) (int64, error) {
	client := redis.NewClient(&redis.Options{
		Network: "unix", Addr: filepath.Join(c.own, "redis.sock"), MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer func() { _ = client.Close() }()
	info, err := client.XInfoStream(ctx, vocabulary.NewKeys("media").Events()).Result()
	if err != nil {
		return 0, fmt.Errorf("count the events: %w", err)
	}
	return info.EntriesAdded, nil
}

func (t *table) memory(name string, p peak) {
	for _, kind := range sortedKeys(p.kinds) {
		t.add(name, kind, megabytes(p.kinds[kind].RSS), megabytes(p.kinds[kind].PSS))
	}
	t.add(name, "without redis-server", megabytes(p.noRedis.RSS), megabytes(p.noRedis.PSS))
	t.add(name, "all", megabytes(p.all.RSS), megabytes(p.all.PSS))
}
