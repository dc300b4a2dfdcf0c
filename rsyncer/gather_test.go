package rsyncer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// reads is an Rsyncer whose rsyncs leave what lists they read.
func reads(t *testing.T, cfg Config) (r *Rsyncer, lists func() []string) {
	file := filepath.Join(t.TempDir(), "list")
	cfg.RsyncPath = script(t, `tee -a `+file+` | `+need(t, "rsync")+` "$@"`)
	return open(t, cfg), func() []string {
		text, err := os.ReadFile(file)
		must(t, err)
		return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	}
}

// many makes files in a directory which nothing was made in for a while, and
// returns the changes of some of them.
func many(t *testing.T, cfg Config, dir string, files, changed int) []fastsync.Change {
	var paths []string
	for i := range files {
		p := fmt.Sprintf("%s/a file with a name of some length %d", dir, i)
		write(t, cfg.Source, p, "x")
		if i < changed {
			paths = append(paths, p)
		}
	}
	rests(t, cfg, dir)
	return entry(paths...)
}

func rests(t *testing.T, cfg Config, dir string) {
	info, err := os.Stat(filepath.Join(cfg.Source, dir))
	must(t, err)
	eventually(t, "the directory rests", func() bool { return time.Since(changeTime(info)) >= settling })
}

func TestManyChangesInADirectoryAreItsListing(t *testing.T) {
	for _, remove := range []bool{false, true} {
		cfg := setup(t)
		cfg.Delete = remove
		write(t, cfg.Target, "d/only at the target", "x")
		r, lists := reads(t, cfg)
		changes := slices.Concat(many(t, cfg, "d", 100, 90), many(t, cfg, "d/e", 50, 50), entry("keep"))
		out := ship(t, r, changes)
		clean(t, out)
		same(t, lists(), "/keep", "/d/", "/d/e/")
		if out.Shipped != 141 || read(cfg.Target, "d/only at the target") != "x" {
			t.Errorf("%+v", out)
		}
		for _, c := range changes {
			if read(cfg.Target, c.Path) == "missing" {
				t.Fatalf("%s is missing", c.Path)
			}
		}
	}
}

func TestAListingThatWouldCostMoreIsNone(t *testing.T) {
	cfg := setup(t)
	r, lists := reads(t, cfg)
	clean(t, ship(t, r, slices.Concat(many(t, cfg, "few of many", 3000, fewest), many(t, cfg, "few", fewest-1, fewest-1))))
	if n := len(lists()); n != 2*fewest-1 {
		t.Errorf("%d entries: %q", n, lists()[:3])
	}
}

func TestNothingThatHasToWaitComesWithAListing(t *testing.T) {
	for name, beside := range map[string]func(t *testing.T, file string){
		"open": func(t *testing.T, file string) {
			write(t, filepath.Dir(file), "beside", "a beginning")
			opened(t, filepath.Dir(file), "beside")
		},
		"large": func(t *testing.T, file string) {
			write(t, filepath.Dir(file), "beside", "x")
			must(t, os.Truncate(file, maxLiveSize+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := setup(t)
			r, lists := reads(t, cfg)
			changes := many(t, cfg, "d", 60, 60)
			beside(t, filepath.Join(cfg.Source, "d", "beside"))
			rests(t, cfg, "d")
			clean(t, ship(t, r, changes))
			if len(lists()) != 60 || read(cfg.Target, "d/beside") != "missing" {
				t.Errorf("%d entries, and beside them %.20q", len(lists()), read(cfg.Target, "d/beside"))
			}
		})
	}
}

// Of two runs that have one file at a time, the older version may be the last. What
// is made while a listing ships is not in it, and waits for nothing.
func TestWhatIsInAListingIsNobodyElses(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	dir := t.TempDir()
	cfg.RsyncPath = script(t, `n=$(wc -l <`+dir+`/began); echo >>`+dir+`/began; tee -a `+dir+`/list | { until [ -e `+dir+`/go$n ]; do sleep 0.01; done; exec `+need(t, "rsync")+` "$@"; }`)
	again := func() {
		for _, p := range []string{"began", "list"} {
			must(t, os.WriteFile(filepath.Join(dir, p), nil, 0o600))
		}
	}
	let := func(run int) { write(t, dir, fmt.Sprint("go", run), "") }
	r := open(t, cfg)
	again()
	for run := range 9 {
		let(run)
	}
	_ = r.Unlocked() // which runs rsync
	for run := range 9 {
		must(t, os.Remove(filepath.Join(dir, fmt.Sprint("go", run))))
	}

	var shipping sync.WaitGroup
	begin := func(changes []fastsync.Change, runs int) {
		shipping.Go(func() {
			if out := ship(t, r, changes); len(out.Failed)+len(out.Waits) > 0 {
				t.Errorf("outcome %+v", out)
			}
		})
		eventually(t, "it runs", func() bool { return len(read(dir, "began")) == runs })
	}
	write(t, cfg.Source, "d/other", "x")
	write(t, cfg.Target, "d/gone", "x")
	all := many(t, cfg, "d", 60, 60)

	again()
	begin(all, 1)
	for _, p := range []string{"d/other", "d/gone"} {
		if out := ship(t, r, entry(p)); len(out.Waits) != 1 || out.Waits[0] != entry(p)[0] {
			t.Errorf("%s beside the listing: %+v", p, out)
		}
	}
	write(t, cfg.Source, "d/new", "x")
	let(1)
	if out := ship(t, r, entry("d/new")); len(out.Waits) > 0 || read(cfg.Target, "d/new") != "x" {
		t.Errorf("what is new waits: %+v", out)
	}
	let(0)
	shipping.Wait()
	same(t, strings.Split(read(dir, "list"), "\x00"), "/d/", "/d/new", "")

	for run := range 9 {
		let(run)
	}
	for _, p := range []string{"d/other", "d/gone"} {
		if out := ship(t, r, entry(p)); len(out.Waits) > 0 {
			t.Errorf("%s after the listing: %+v", p, out)
		}
	}
	if read(cfg.Target, "d/other") != "x" || read(cfg.Target, "d/gone") != "missing" {
		t.Error("they are not as they are in the source")
	}
}

// What a link leads to is read with the names, and not asked for: an old one that is
// replaced meanwhile has to wait for the listing.
func TestALinkThatIsReplacedWaitsForItsListing(t *testing.T) {
	cfg := setup(t)
	r := open(t, cfg)
	link := filepath.Join(cfg.Source, "d/link")
	must(t, os.Mkdir(filepath.Dir(link), 0o755))
	must(t, os.Symlink("v1", link))
	changes := many(t, cfg, "d", 60, 60)
	listing, other := r.neighbours.enter(true), r.neighbours.enter(true)
	s := sorter{r: r, lane: fastsync.Live, near: listing, out: &fastsync.Outcome{}, begun: time.Now().Add(time.Hour)} // all is old
	_, err := s.sort(changes)
	must(t, err)
	if s.to[2*int(entries)].jobs[0].listed != "d" {
		t.Fatal("it is not listed")
	}
	must(t, os.Symlink("v2", link+".new"))
	must(t, os.Rename(link+".new", link))
	info, err := os.Lstat(link)
	must(t, err)
	if other.free("d", "d/link", info) {
		t.Error("it ships beside the listing")
	}
	listing.leave()
	if !other.free("d", "d/link", info) {
		t.Error("it does not ship after the listing")
	}
}

func TestADirectoryThatIsBeingFilledIsNotListed(t *testing.T) {
	cfg := setup(t)
	r := open(t, cfg)
	changes := many(t, cfg, "d", 60, 60)
	for try := 0; ; try++ {
		write(t, cfg.Source, fmt.Sprint("d/just made ", try), "x")
		s := sorter{r: r, lane: fastsync.Live, out: &fastsync.Outcome{}, begun: time.Now()}
		_, err := s.sort(changes)
		must(t, err)
		inTime := time.Since(changeTime(stat(t, cfg.Source, "d"))) < settling
		switch listed := s.to[2*int(entries)].jobs[0].listed == "d"; {
		case listed && inTime:
			t.Fatal("it is listed")
		case !listed:
			return
		case try == 100:
			t.Skip("this machine takes too long to look at 60 files")
		}
	}
}

func stat(t *testing.T, root, p string) os.FileInfo {
	info, err := os.Stat(filepath.Join(root, p))
	must(t, err)
	return info
}

// A file that was made since the look may have gone with its directory half written.
func TestWhatCameIntoAListingFollows(t *testing.T) {
	cfg := setup(t)
	r := open(t, cfg)
	changes := many(t, cfg, "d", 60, 59)
	out := fastsync.Outcome{}
	s := sorter{r: r, lane: fastsync.Live, out: &out, begun: time.Now()}
	_, err := s.sort(changes)
	must(t, err)
	g := s.to[2*int(entries)]
	if g.jobs[0].listed != "d" {
		t.Fatal("it is not listed")
	}
	write(t, cfg.Source, "d/since", "x")
	if got := r.beside(g, g.jobs, s.begun); len(got) != 1 || got[0].Path != "d/since" {
		t.Errorf("%v", got)
	}
	var got []fastsync.Change
	withoutDescriptors(t, func() { got = r.beside(g, g.jobs, s.begun) })
	if len(got) != 1 || got[0] != scoped("d", fastsync.Listing)[0] {
		t.Errorf("where that cannot be known now: %v", got)
	}
}

func TestListsAreNotTooLong(t *testing.T) {
	g := &group{}
	for i := range maxEntries + 1 {
		g.jobs = append(g.jobs, job{path: fmt.Sprint(i)})
	}
	for i := range 2 * maxEntries {
		g.jobs = append(g.jobs, job{path: fmt.Sprint("d/", i), listed: "d"})
	}
	if parts := g.parts(); len(parts) != 2 || len(parts[0]) != maxEntries || len(parts[1]) != 1+2*maxEntries {
		t.Errorf("%d parts", len(parts))
	}
}

// However much a batch's trees hold, only so many files are kept in mind at a
// time, and deletions still come last.
func TestABatchOfManyTreesShipsInRuns(t *testing.T) {
	cfg := setup(t)
	cfg.Delete = true
	file := filepath.Join(t.TempDir(), "runs")
	cfg.RsyncPath = script(t, `case "$*" in *--delete-missing-args*) echo deletes;; *) echo ships;; esac >> `+file+`; exec `+need(t, "rsync")+` "$@"`)
	write(t, cfg.Target, "moved", "x")
	changes := entry("moved")
	for d := range 2*maxJobs/900 + 1 {
		for i := range 900 {
			write(t, cfg.Source, fmt.Sprintf("%d/%d", d, i), "")
		}
		changes = append(changes, scoped(fmt.Sprint(d), fastsync.Tree)...)
	}
	out, err := open(t, cfg).Sync(t.Context(), fastsync.Live, changes)
	must(t, err)
	clean(t, out)
	text, err := os.ReadFile(file)
	must(t, err)
	runs := strings.Fields(string(text))
	if i := slices.Index(runs, "deletes"); i < 2 {
		t.Errorf("%q", runs)
	}
	for d := range 2*maxJobs/900 + 1 {
		if list, _ := os.ReadDir(filepath.Join(cfg.Target, fmt.Sprint(d))); len(list) != 900 {
			t.Errorf("%d of 900 files in %d", len(list), d)
		}
	}
	if read(cfg.Target, "moved") != "missing" {
		t.Error("what is gone is still there")
	}
}
