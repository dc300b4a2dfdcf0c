package main

// protections are what holds a promise, by the fault that breaks it otherwise:
// -without takes each out of the code and wants its fault to be found.
var protections = map[string][]patch{
	"events deleted": {
		{"subscriber/subscriber.go", `send(ctx, gaps, "redis lost its data: the consumer group was gone")`, ""},
	},
	"events trimmed unread": {
		{"subscriber/subscriber.go", "if got.lost > 0 {", "if got.lost < 0 {"},
		{"subscriber/subscriber.go", "err == nil && lost > 0 {", "err == nil && lost < 0 {"},
	},
	"the relay cut off from Pub/Sub": {
		{"publisher/relay.go", "\t\t*subscribed = true\n\t\tr.cfg.Gap()", "\t\tif !*subscribed {\n\t\t\tr.cfg.Gap()\n\t\t}\n\t\t*subscribed = true"},
	},
	"agent killed -9": {
		{"cmd/fastsync/agent.go", "since.IsZero() {", "!since.IsZero() || since.IsZero() {"},
	},
	"subscriber killed -9": {
		{"subscriber/subscriber.go", `after, last, failing := "0", "", ""`, `after, last, failing := ">", "", ""`},
	},
	"each rsync killed": {
		{"rsyncer/exit.go", "case res.err != nil && res.code < 0:", "case res.err != nil && res.code < 0:\n\t\treturn nil\n\tcase false:"},
	},
	"source emptied at once": {
		{"rsyncer/gate.go", "dir.Readdirnames(1); errors.Is(err, io.EOF) {", "dir.Readdirnames(1); errors.Is(err, io.EOF) && false {"},
		{"rsyncer/gate.go", "} else if err != nil {\n\t\treturn r.fault(fastsync.Transient, \"the source \"+r.source+\" cannot be read: check its disk\", err)", "} else if err != nil && !errors.Is(err, io.EOF) {\n\t\treturn err"},
	},
	"a file is written slowly": {
		{"internal/lease/lease.go", "if st.Mode&unix.S_IFMT != unix.S_IFREG {\n\t\treturn Special, nil\n\t}", "if st.Mode&unix.S_IFMT == unix.S_IFREG {\n\t\treturn Closed, nil\n\t}"},
	},
	"a file grows and shrinks while it ships": {
		{"rsyncer/whole.go", "return err != nil || now.Mode", "return false && err != nil || false && now.Mode"},
	},
	"rewritten with equal size in one second": {
		{"rsyncer/args.go", `"--modify-window=-1",`, `"--modify-window=0",`},
	},
	"names of every kind": {
		{"rsyncer/args.go", "out = append(append(out, '/'), j.path...)", "out = append(out, j.path...)"},
	},
	"messages that lead out of the root": {
		{"publisher/message.go", "fastsync.CheckPath(", "func(string) error { return nil }("},
	},
	"inotify's queue overflows": {
		{"watcher/loop.go", "\tl.demand(since.Add(-margin))\n}", "\t_ = since\n}"},
	},
	"fastsync run killed -9": {
		{"cmd/fastsync/agent.go", "since.IsZero() {", "!since.IsZero() || since.IsZero() {"},
		{"subscriber/subscriber.go", `after, last, failing := "0", "", ""`, `after, last, failing := ">", "", ""`},
	},
}
