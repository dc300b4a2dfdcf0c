package subscriber

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// canned is a Redis that says the same again and again.
type canned struct {
	nogroup   bool   // and refuses to make one
	read      int64  // the group's own count
	last      string // what the group was set to
	pipelines int
	trims     int
	asked     int // how often which run it is
	restart   int // after so many answers it is another
}

func (c *canned) client(t *testing.T) *redis.Client {
	client := redis.NewClient(&redis.Options{})
	client.AddHook(c)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (c *canned) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *canned) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		switch cmd := cmd.(type) {
		case *redis.XInfoGroupsCmd:
			c.groups(cmd)
		case *redis.Cmd:
			if c.nogroup {
				cmd.SetErr(errors.New("NOPERM"))
			} else { // XGROUP SETID
				c.last, c.read = cmd.Args()[4].(string), cmd.Args()[6].(int64)
			}
		case *redis.StringCmd:
			run := "old"
			if c.asked++; c.asked > c.restart {
				run = "new"
			}
			cmd.SetVal("# Server\r\nrun_id:" + run + "\r\nx:y\r\n")
		case *redis.IntCmd:
			c.trims++
		}
		return cmd.Err()
	}
}

func (c *canned) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		if c.pipelines++; c.pipelines > 100 {
			panic("it reads again without a pause")
		}
		for _, cmd := range cmds {
			switch cmd := cmd.(type) {
			case *redis.XInfoGroupsCmd:
				c.groups(cmd)
			case *redis.XInfoStreamCmd:
				cmd.SetVal(&redis.XInfoStream{EntriesAdded: 10, Length: 4, FirstEntry: redis.XMessage{ID: "7-0"}})
			case *redis.XStreamSliceCmd:
				cmd.SetErr(errors.New("NOGROUP"))
			}
		}
		return nil
	}
}

func (c *canned) groups(cmd *redis.XInfoGroupsCmd) {
	cmd.SetVal([]redis.XInfoGroup{{Name: "web1", LastDeliveredID: "4-0", EntriesRead: c.read}})
}

// bubbled runs one part of a Subscriber on fake time and a canned Redis.
func bubbled(t *testing.T, c *canned, part func(s *Subscriber, ctx context.Context, gaps chan gap), within func(gaps chan gap)) {
	t.Helper()
	client := c.client(t) // outside: go-redis asks DNS for this host's name
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		gaps, ended := make(chan gap), make(chan struct{})
		go func() { defer close(ended); part(serving(client, "web1"), ctx, gaps) }()
		within(gaps)
		stop()
		<-ended
	})
}

func TestTheGuardSeesATrimWhileNothingIsRead(t *testing.T) {
	c := &canned{read: 4}
	bubbled(t, c, func(s *Subscriber, ctx context.Context, gaps chan gap) { _ = s.guard(ctx, gaps) }, func(gaps chan gap) {
		begun := time.Now()
		gap := <-gaps
		close(gap.saved)
		if took := time.Since(begun); !strings.HasPrefix(gap.reason, "2 events were trimmed unread") || took > 10*time.Second {
			t.Errorf("after %v: %s; want 2 events within 10 s", took, gap.reason)
		}
		select {
		case gap := <-gaps:
			t.Errorf("the same trim was seen again: %s", gap.reason)
		case <-time.After(time.Minute):
		}
	})
	if c.trims < 6 {
		t.Errorf("%d trims in a minute, want one each 10 s", c.trims)
	}
}

func TestAGroupThatCannotBeMadeIsTriedOnceASecond(t *testing.T) {
	c := &canned{nogroup: true}
	bubbled(t, c, func(s *Subscriber, ctx context.Context, gaps chan gap) { _ = s.read(ctx, &loop{gaps: gaps}) }, func(gaps chan gap) {
		close((<-gaps).saved)
		time.Sleep(10*time.Second + time.Millisecond) // fake time
		synctest.Wait()
	})
	if c.pipelines != 11 {
		t.Errorf("%d tries in 10 s, want one a second", c.pipelines)
	}
}

func TestAnEventTrimmedAfterItWasReadIsNotLost(t *testing.T) {
	fresh := []redis.XMessage{{ID: "5-0"}, {ID: "6-0"}}
	for _, tt := range []struct {
		stream     redis.XInfoStream // when 5-0 and 6-0 were just read
		lost, read int64
	}{
		{redis.XInfoStream{EntriesAdded: 10, Length: 6, FirstEntry: redis.XMessage{ID: "5-0"}}, 0, 4},
		{redis.XInfoStream{EntriesAdded: 10, Length: 5, FirstEntry: redis.XMessage{ID: "6-0"}}, 0, 4},
		{redis.XInfoStream{EntriesAdded: 10, Length: 2, FirstEntry: redis.XMessage{ID: "9-0"}}, 2, 8},
		{redis.XInfoStream{EntriesAdded: 10, Length: 0}, 4, 10},
	} {
		c := &canned{read: 4}
		groups, stream := redis.NewXInfoGroupsCmd(t.Context(), ""), redis.NewXInfoStreamCmd(t.Context(), "")
		c.groups(groups)
		stream.SetVal(&tt.stream)
		_, lost, err := serving(c.client(t), "web1").queue.account(t.Context(), groups, stream, fresh, anyhow)
		if err != nil || lost != tt.lost || c.read != tt.read || lost > 0 && c.last != "6-0" {
			t.Errorf("%+v: lost %d (%v), the group set to %q, %d read; want %+v", tt.stream, lost, err, c.last, c.read, tt)
		}
	}
}

// A Redis that has loaded its AOF has forgotten how many events a group had read,
// which is no loss of events.
func TestARestartOfRedisIsNoTrim(t *testing.T) {
	client := startRedis(t)()
	q := opened(t, client, "web1")
	ids := write(t, client, "f", 10)
	take(t, q, ">")
	for i := range 2 {
		if err := q.ack(t.Context(), ids[:9], nil); err != nil {
			t.Fatal(err)
		}
		if err := q.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, client, "XGROUP", "SETID", keys.Events(), "web1", ids[9], "ENTRIESREAD", 0)
		if i == 0 {
			if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != 0 {
				t.Errorf("%d events count as lost (%v), all were read", lost, err)
			}
			continue
		}
		write(t, client, "g", 3)
		if got := take(t, q, ">"); len(got) != 3 {
			t.Errorf("read %v, want 3", got)
		}
	}
	last := write(t, client, "h", 5)
	must(t, client, "XTRIM", keys.Events(), "MINID", last[4])
	if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost < 4 {
		t.Errorf("%d events count as lost (%v), 4 were trimmed unread", lost, err)
	}
	if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != 0 {
		t.Errorf("%d events count as lost once more (%v)", lost, err)
	}
}
