package main

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// unwritable says why a Redis that can be read takes no writes, and what to do;
// empty where it takes them, or does not tell. fastsync's own state is then as
// old as that, for it is in there.
func unwritable(ctx context.Context, client redis.UniversalClient) string {
	info, err := client.Info(ctx).Result()
	if err != nil {
		return "" // a right that nobody needs
	}
	number := func(name string) int64 { n, _ := strconv.ParseInt(value(info, name), 10, 64); return n }
	switch limit := number("maxmemory"); {
	case value(info, "role") == "slave" && value(info, "slave_read_only") != "0":
		return "is the read-only replica of " + value(info, "master_host") + ":" + value(info, "master_port") + "; give --redis the master, or make this one it with REPLICAOF NO ONE"
	case limit > 0 && number("used_memory") > limit && value(info, "maxmemory_policy") == "noeviction":
		return "is out of memory: it uses " + value(info, "used_memory_human") + " of maxmemory " + value(info, "maxmemory_human") + "; raise that, or remove what other programs keep in it"
	case value(info, "aof_last_write_status") == "err":
		return "cannot write its append-only file; make room on its disk"
	case value(info, "rdb_last_bgsave_status") == "err":
		return "could not save its last snapshot, and may refuse writes for that; make room on its disk, and see its log"
	}
	return ""
}
