package main

import "slices"

// What more than one fault is without.
var (
	// heard: where the relay was away, a catch-up follows.
	heard = patch{"publisher/relay.go", "\t\t*subscribed = true\n\t\tr.cfg.Gap(box.good.Add(-margin))", "\t\tif !*subscribed {\n\t\t\tr.cfg.Gap(box.good)\n\t\t}\n\t\t*subscribed = true"}
	// kept: what Redis does not take is held and tried again, and looked for once
	// more after the relay was away with it.
	kept = []patch{
		heard,
		{"cmd/fastsync/redis.go", "return redis.NewClient(opt), nil", "opt.MaxRetries, opt.DialerRetries = -1, 1\n\treturn redis.NewClient(opt), nil"},
		{"publisher/publisher.go", "\t\tif ctx.Err() != nil {\n\t\t\treturn ctx.Err()\n\t\t}\n\t\tif failed++", "\t\tif ctx.Err() == nil {\n\t\t\treturn nil\n\t\t}\n\t\tif failed++"},
	}
	// patient: Redis may be far away.
	patient = []patch{
		{"cmd/fastsync/redis.go", "return openClient(address, 5*time.Second)", "return openClient(address, 300*time.Millisecond)"},
		{"cmd/fastsync/redis.go", "dialPatience, writePatience = 3 * time.Second, 5 * time.Second", "dialPatience, writePatience = 300 * time.Millisecond, 300 * time.Millisecond"},
	}
	// compared: another run of Redis than before is a gap.
	compared = []patch{
		{"subscriber/restart.go", "now != \"\" && now != run {", "now == \"\" && now != run {"},
		{"subscriber/restart.go", `if state.RedisRun != "" && run`, `if state.RedisRun == "never" && run`},
	}
	// missed: a consumer group that is gone is a gap.
	missed = []patch{
		{"subscriber/subscriber.go", "told = told || report(ctx, gaps, ungrouped)", "told = true"},
		{"subscriber/restart.go", "s.lost(state, ungrouped)", ""},
	}
	// judged: a run counts by its exit code, and a path by what a second look finds.
	judged = []patch{
		{"rsyncer/exit.go", "case errors.Is(res.err, errStalled):", "case true:\n\t\treturn nil\n\tcase errors.Is(res.err, errStalled):"},
		{"rsyncer/ship.go", "if res.code == exitPartial || ", "if false && res.code == exitPartial || "},
	}
	// retried: a run that has lost the other side goes once more at once.
	retried = []patch{
		{"rsyncer/carry.go", "if !stale(res) || ", "if true || "},
		{"rsyncer/carry.go", "for try := 1; try < tries && ", "for try := tries; try < tries && "},
	}
	// alive: a connection that says nothing is dead after a while.
	alive = []patch{
		{"rsyncer/args.go", "-o ServerAliveInterval=10", "-o ServerAliveInterval=1000"},
		{"rsyncer/process.go", "time.Since(moved) >= limit", "time.Since(moved) >= 100*limit"},
	}
	// resumed: what was read and not acknowledged is read again.
	resumed = patch{"subscriber/subscriber.go", `after, last, failing := "0", "", ""`, `after, last, failing := ">", "", ""`}
	// caught: the next start looks for what changed since the checkpoint.
	caught = patch{"cmd/fastsync/checkpoint.go", "since.IsZero() {", "!since.IsZero() || since.IsZero() {"}
	// handed: who has lost its target hands over what is in hand.
	handed = patch{"subscriber/handover.go", "for some := range slices.Chunk(changes, page) {", "for some := range slices.Chunk(changes[:0], page) {"}
	// inherited: what another process of the target has read and not acknowledged is taken over.
	inherited = patch{"subscriber/subscriber.go", "strangers.longer(got.pending > held, asked, s.queue.patience)", "strangers.longer(false && got.pending > held, asked, s.queue.patience)"}
	// inHand: no run reads what another has in hand, and none ships what another has just read.
	inHand = []patch{
		{"rsyncer/neighbours.go", "h := n.all.hands[p]", "h := n.all.hands[\"\"]"},
		{"rsyncer/neighbours.go", "if other != n && other.flying", "if false && other.flying"},
	}
	// full: nothing is deleted because of a root that is empty.
	full = []patch{
		{"rsyncer/gate.go", "dir.Readdirnames(1); errors.Is(err, io.EOF) {", "dir.Readdirnames(1); errors.Is(err, io.EOF) && false {"},
		{"rsyncer/gate.go", "} else if err != nil {\n\t\treturn r.fault(fastsync.Transient, \"the source \"+r.source+\" cannot be read: check its disk\", err)", "} else if err != nil && !errors.Is(err, io.EOF) {\n\t\treturn err"},
	}
	// locked: rsync is refused what is open for writing.
	locked = patch{"rsyncer/locked.go", "func (r *Rsyncer) lockable() error {\n", "func (r *Rsyncer) lockable() error {\n\tif !r.pull {\n\t\treturn errors.New(\"taken out\")\n\t}\n"}
	// looked: what could not be shipped is looked at once more before it counts as failed.
	looked = []patch{
		{"rsyncer/whole.go", "if k != deletes && missing(err) || belowNoDirectory(v.reason) {", "if false && missing(err) {"},
		{"rsyncer/whole.go", "return (!v.own || nowhere(v.reason)) &&", "return false &&"},
	}
	// same: a file that changed while it shipped goes round again.
	same = patch{"rsyncer/whole.go", "return err != nil || now.Mode", "return false && err != nil || false && now.Mode"}
	// confined: the kernel holds rsync to the root and the target.
	confined = patch{"rsyncer/confined.go", "func (r *Rsyncer) confinable() error {\n", "func (r *Rsyncer) confinable() error {\n\tif r.rsync != \"\" {\n\t\treturn errors.New(\"taken out\")\n\t}\n"}
	// force: what is in the way goes, as deletes are on.
	force = patch{"rsyncer/args.go", "args = append(args, \"--force\") // a file may take a directory's place", "_ = missing"}
)

// protections are what holds a promise, by the fault that breaks it otherwise:
// -without takes all of them out of the code and wants the fault to be found.
// Where a file is in a directory's way rsync makes way by itself, in any run.
var protections = map[string][]patch{
	"redis killed, with AOF":            slices.Concat(compared, kept),
	"redis killed, without persistence": slices.Concat(compared, kept, missed),
	"redis away":                        slices.Concat(compared, kept),
	"redis in a black hole":             kept,
	"redis 500 ms away":                 slices.Concat(kept, patient),
	"redis connections reset":           kept,
	"a failover that loses writes":      slices.Concat(compared, missed, []patch{heard}),
	"FLUSHALL":                          missed,
	"events deleted":                    missed,
	"redis out of memory":               kept,
	"redis read-only":                   kept,
	"redis loads for long":              slices.Concat(compared, kept),
	"redis forbids XADD":                kept,
	"events trimmed unread": {
		{"subscriber/place.go", "if lost > 0 && !tell(lost) {", "if lost > 0 && tell == nil {"},
	},
	"an event with the highest id":   slices.Concat(kept, missed),
	"the relay cut off from Pub/Sub": {heard},
	"the relay too slow for Pub/Sub": {heard},

	"fastsync run killed -9":                 {caught, resumed},
	"agent killed -9":                        {caught},
	"subscriber killed -9":                   {resumed},
	"subscriber stopped, another takes over": {resumed, inherited, handed},
	"subscriber killed -9 beside another":    {resumed, inherited},

	"each rsync killed":             slices.Concat(judged, retried),
	"each ssh killed":               judged,
	"sessions at the target killed": judged,
	"a directory becomes a link, in a pull": {
		{"rsyncer/ship.go", "\tif r.pull {\n\t\tvar err error", "\tif false {\n\t\tvar err error"},
		{"rsyncer/ship.go", "if r.pull && (answered(res) || crossed(res)) {", "if false {"},
	},
	"link cut while idle":             alive,
	"link cut while pushing":          alive,
	"link cut while pulling":          alive,
	"connections that wait are stale": slices.Concat(judged, retried),
	"sshd gone":                       judged,
	"another host key":                judged,
	"the daemon's module gone":        judged,

	"target full":                         judged,
	"target without inodes":               judged,
	"target read-only":                    judged,
	"one file at the target is immutable": judged,
	"a directory where a file should be":  {force},
	"a link to elsewhere in the way":      {confined, {"rsyncer/args.go", `"--mkpath", `, `"--mkpath", "--keep-dirlinks", `}},
	"the target's folder gone": {
		{"rsyncer/confined.go", "os.MkdirAll(r.target, 0o777)", "error(nil)"},
		{"rsyncer/args.go", `"--mkpath", `, ""},
	},

	"source unmounted":       append(slices.Clone(full), confined, patch{"rsyncer/gate.go", "if !os.SameFile(info, r.root) {", "if false && !os.SameFile(info, r.root) {"}),
	"source emptied at once": full,
	"directories renamed while they are walked": {
		{"watcher/change.go", "l.put(c.path, fastsync.Tree) // the files in it that are open tell when they are closed", "l.put(c.path, fastsync.Entry)"},
		{"watcher/loop.go", "\t\tl.putSince(k.dir, fastsync.Tree, k.began)", "\t\tl.putSince(k.dir, fastsync.Entry, k.began)"},
	},
	"a parent becomes a file, and back": {force},
	"files vanish": append(slices.Clone(looked), same,
		patch{"rsyncer/args.go", "args = append(args, missing)\n", "if k == deletes {\n\t\targs = append(args, missing)\n\t}\n"}),
	"a file grows and shrinks while it ships": {locked, same},
	"rewritten with equal size in one second": {
		{"rsyncer/args.go", `"--modify-window=-1",`, `"--modify-window=0",`},
	},
	"a file is rewritten while bulk ships it": inHand,
	"a file is written slowly": {
		locked,
		{"internal/lease/lease.go", "unix.F_SETLEASE, unix.F_RDLCK) }); err != nil {", "unix.F_SETLEASE, unix.F_RDLCK) }); false && err != nil {"},
	},
	"an unreadable file": judged,

	"inotify's queue overflows": {
		{"watcher/loop.go", "\tl.demand(since.Add(-margin))\n}", "\t_ = since\n}"},
	},
	"too few inotify watches": {
		{"watcher/rewalk.go", "if l.rewalking || len(l.tree.bare) == 0 {", "if true {"},
	},
	"few file descriptors": {
		{"rsyncer/survey.go", "case lease.Exhausted(err):\n\t\treturn err", "case lease.Exhausted(err):\n\t\treturn nil"},
		{"watcher/list.go", "case !lease.Exhausted(err), time.Since(begun) >= wait:", "case time.Since(begun) >= 0:"},
		{"watcher/tree.go", "if t.lack(err) {", "if t.lack(err) && false {"},
		{"internal/readlock/file_linux.go", "if !lease.Exhausted(err) {", "if true {"},
		{"rsyncer/whole.go", "|| lease.Exhausted(err)", "|| err == nil && false"},
		{"watcher/catchup.go", "in.abs == c.w.cfg.Root, lease.Exhausted(err):", "in.abs == c.w.cfg.Root, false && lease.Exhausted(err):"},
	},
	"the state directory's disk is full": slices.Concat(compared, kept),

	"a million messages": {
		{"publisher/relay.go", "const maxHeld = 100_000", "const maxHeld = 100_000_000"},
	},
	"garbage messages": {
		{"fastsync.go", "case strings.IndexByte(p, 0) >= 0:", "case false && strings.IndexByte(p, 0) >= 0:"},
	},
	"messages that lead out of the root": {
		{"fastsync.go", "case !filepath.IsLocal(p):", "case false && !filepath.IsLocal(p):"},
	},
	"a link flips while 10,000 paths are published": {confined},
	"names of every kind": {
		{"rsyncer/args.go", "out = append(append(out, '/'), j.path...)", "out = append(out, j.path...)"},
	},
	"paths of up to 4,000 bytes": {
		{"fastsync.go", "const MaxPath = 4000", "const MaxPath = 1000"},
	},
	"a path of 4,096 bytes": {
		{"fastsync.go", "const MaxPath = 4000", "const MaxPath = 5000"},
	},

	"times of 1970 and 2106": {
		{"rsyncer/aged.go", "if !j.aged || ", "if true || "},
	},
	"the clock jumps a day ahead": {caught},
	"the clock jumps a day back": {
		{"cmd/fastsync/agent.go", "at.After(now) {", "false && at.After(now) {"},
	},
	"one target of five stopped": { // as if they shared one runner
		{"rsyncer/sync.go", "// Sync ships changes over a lane.", "var only = make(chan struct{}, 1)\n\n// Sync ships changes over a lane."},
		{"rsyncer/sync.go", "\tdefer r.use(ctx, lane)()\n", "\tonly <- struct{}{}\n\tdefer func() { <-only }()\n\tdefer r.use(ctx, lane)()\n"},
	},
}
