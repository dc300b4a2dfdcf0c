package main

import (
	"fmt"
	"strconv"
)

// url is of Redis as fastsync sees it.
func (r *rig) url() []string {
	switch {
	case r.managed:
		return []string{"--state-dir", r.state}
	case r.watched:
		return []string{"--redis", r.sentinel.url()}
	case r.near:
		return []string{"--redis", "redis://" + r.redis.Address()}
	}
	return []string{"--redis", fmt.Sprintf("redis://127.0.0.1:%d", r.proxy.Port())}
}

// directly is past the proxy.
func (r *rig) directly() []string {
	if r.managed || r.watched || r.near {
		return r.url()
	}
	return []string{"--redis", "redis://" + r.redis.Address()}
}

func (r *rig) flags() []string {
	watch := r.watch
	if watch == "" {
		watch = "auto"
	}
	args := append(r.url(), "--name", name, "--watch", watch, "--log-format", "json")
	if !r.managed { // else a fastsync of the host's own would be looked for at the rig's redis
		args = append(args, "--state-dir", r.state)
	}
	return args
}

func (r *rig) toTarget() []string {
	args := []string{"--delete", "--max-delete", "1000000", "--sweep-every", "0"}
	switch r.way {
	case "ssh":
		args = append(args, "--target", "t=127.0.0.1:"+r.target, "--rsh", r.sshd.Rsh(r.link.Port()))
	case "pull":
		args = append(args, "--target", "t="+r.target, "--rsh", r.sshd.Rsh(r.link.Port()))
	case "daemon":
		args = append(args, "--target", fmt.Sprintf("t=rsync://127.0.0.1:%d/mod/", r.link.Port()))
	default:
		args = append(args, "--target", "t="+r.target)
	}
	for i := 2; i <= r.targets; i++ {
		args = append(args, "--target", fmt.Sprintf("t%d=%s", i, r.nth(i)))
	}
	return args
}

// nth is the folder of the target tN.
func (r *rig) nth(n int) string { return r.target + strconv.Itoa(n) }
