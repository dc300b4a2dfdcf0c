package main

import "testing"

func TestPasswordless(t *testing.T) {
	for given, want := range map[string]string{
		"redis://127.0.0.1:6379":                   "redis://127.0.0.1:6379",
		"redis://user@127.0.0.1:6379/1":            "redis://user@127.0.0.1:6379/1",
		"redis://user:s3cret@127.0.0.1:6379":       "redis://user@127.0.0.1:6379",
		"rediss://:s3cret@host:6379":               "rediss://@host:6379",
		"unix:///run/redis.sock":                   "unix:///run/redis.sock",
		"unix://user:s3@cret@/run/redis.sock?db=1": "unix://user@/run/redis.sock?db=1",
	} {
		if got := passwordless(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}
