package rsyncer

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// byShell has runs go through a remote shell of its own, which is this host: the
// n-th says in dir that it began, runs, says that it is done, and ends, each once it
// may: "before n" and "after n" are the files that let it.
func byShell(t *testing.T, cfg *Config) (dir string) {
	dir = t.TempDir()
	cfg.Rsh = script(t, `shift; n=$(wc -l <`+dir+`/began); echo >>`+dir+`/began
until [ -e "`+dir+`/before $n" ]; do sleep 0.01; done
sh -c "$*"; code=$?; echo >"`+dir+`/done $n"
until [ -e "`+dir+`/after $n" ]; do sleep 0.01; done; exit $code`)
	cfg.Target = "here:" + cfg.Target
	write(t, dir, "began", "")
	return dir
}

// What the live lane ships, no other run may read: of two that read a file, the one
// with the older version could be the last to put it there.
func TestWhatLiveHasBulkDoesNotRead(t *testing.T) {
	cfg := setup(t)
	target := cfg.Target
	dir := byShell(t, &cfg)
	for _, let := range []string{"after 0", "before 1", "after 1", "before 2", "after 2"} {
		write(t, dir, let, "")
	}
	r := open(t, cfg)
	needLock(t, r)
	write(t, cfg.Source, "d/live", "x")
	write(t, cfg.Source, "d/other", "x")

	var shipping sync.WaitGroup
	shipping.Go(func() { clean(t, ship(t, r, entry("d/live"))) })
	eventually(t, "it runs", func() bool { return read(dir, "began") != "" })
	out := shipBulk(t, r, scoped("d", fastsync.Tree))
	if len(out.Again) != 1 || out.Again[0] != entry("d/live")[0] || len(out.Failed) > 0 {
		t.Errorf("%+v", out)
	}
	if read(target, "d/live") != "missing" || read(target, "d/other") != "x" {
		t.Error("bulk has read what live has, or left out more")
	}
	write(t, dir, "before 0", "")
	shipping.Wait()
	clean(t, shipBulk(t, r, scoped("d", fastsync.Tree)))
	if read(target, "d/live") != "x" {
		t.Error("live has not shipped it")
	}
}

// What bulk has just read waits a moment, until that is in its place.
func TestWhatBulkHasReadWaits(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	target := cfg.Target
	dir := byShell(t, &cfg)
	for n := range 10 {
		write(t, dir, fmt.Sprint("before ", n), "")
		if n > 0 {
			write(t, dir, fmt.Sprint("after ", n), "")
		}
	}
	r := open(t, cfg)
	needLock(t, r)
	for _, name := range []string{"rewritten", "gone"} {
		write(t, cfg.Source, "d/"+name, "x")
	}

	var shipping sync.WaitGroup
	shipping.Go(func() { shipBulk(t, r, scoped("d", fastsync.Tree)) })
	eventually(t, "it has read them", func() bool { return read(dir, "done 0") != "missing" })
	begun := time.Now()
	write(t, cfg.Source, "d/rewritten", "newer")
	must(t, os.Remove(filepath.Join(cfg.Source, "d/gone")))
	write(t, cfg.Source, "d/new", "x")
	out := ship(t, r, entry("d/rewritten", "d/gone", "d/new"))
	if time.Since(begun) > flight/2 {
		t.Skip("this machine takes too long for a file")
	}
	if len(out.Waits) != 2 || read(target, "d/rewritten") != "x" || read(target, "d/gone") != "x" || read(target, "d/new") != "x" {
		t.Errorf("%+v", out)
	}
	eventually(t, "they wait no more", func() bool { return len(ship(t, r, entry("d/rewritten", "d/gone")).Waits) == 0 })
	if read(target, "d/rewritten") != "newer" || read(target, "d/gone") != "missing" {
		t.Error("they did not ship")
	}
	write(t, dir, "after 0", "")
	shipping.Wait()
}

// The last file of a run is read when the run has ended, though no other follows.
func TestWhatARunReadLastDoesNotWaitForTheNext(t *testing.T) {
	r := open(t, setup(t))
	needLock(t, r)
	n := r.neighbours.enter(false)
	defer n.leave()
	args := r.operands(r.args(fastsync.Bulk, spec{entries, false, -1}))
	res := r.run(t.Context(), call{fastsync.Bulk, args, []byte("/keep\x00"), func(item) {}, n})
	if res.code != 0 || !n.flying.has("keep", time.Now()) {
		t.Fatalf("%+v: it has not read the file", res)
	}
	if n.flying.has("keep", time.Now().Add(2*flight)) {
		t.Error("it reads the file for ever")
	}
}

// The next part of a batch may have in hand what the one before it had.
func TestWhatTheNextPartHasIsNotLetGoWithTheLast(t *testing.T) {
	all := newNeighbours()
	n, live, bulk := all.enter(true), all.enter(true), all.enter(false)
	has := func() (dir, file bool) { return !live.free("d", "d/f", nil), !bulk.opens("file") }
	both := func() *inHand {
		if !n.list("d", nil) || !n.take("file") {
			t.Fatal("it is somebody else's")
		}
		return n.begun()
	}
	first := both()
	second := both()
	n.ended(first)
	if dir, file := has(); !dir || !file {
		t.Errorf("of the second part it has the directory: %v, the file: %v", dir, file)
	}
	n.ended(second)
	if dir, file := has(); dir || file {
		t.Error("it has them still")
	}
}

func TestAFileIsOnItsWayFromItsReading(t *testing.T) {
	now := time.Now()
	var f flying
	f.reads("large", now)
	now = now.Add(time.Hour)
	if !f.has("large", now) {
		t.Error("it is still being read")
	}
	f.reads("small", now)
	f.lands(now)
	for _, p := range []string{"large", "small"} {
		if !f.has(p, now.Add(flight-1)) {
			t.Errorf("%s may not be there yet", p)
		}
	}
	for _, p := range []string{"large", "small"} {
		if f.has(p, now.Add(2*flight)) {
			t.Errorf("%s keeps its change waiting", p)
		}
	}
}
