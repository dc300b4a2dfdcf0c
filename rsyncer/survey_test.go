package rsyncer

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

// opened keeps a file open for writing until the test ends.
func opened(t *testing.T, root, p string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(root, p), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
}

// No beginning of a file slips into a directory's copy; what is open is named,
// to follow.
func TestOpenFilesStayOutOfTreesAndListings(t *testing.T) {
	for _, remove := range []bool{false, true} {
		for _, lane := range []fastsync.Lane{fastsync.Live, fastsync.Bulk} {
			for _, scope := range []fastsync.Scope{fastsync.Listing, fastsync.Tree} {
				t.Run(string(lane)+" "+string(scope)+" delete="+strconv.FormatBool(remove), func(t *testing.T) {
					cfg := setup(t)
					cfg.Delete = remove
					for _, p := range []string{"d/whole", "d/open [a]*?\\x", "d/open", "d/plain\\x"} {
						write(t, cfg.Source, p, p)
					}
					write(t, cfg.Target, "d/open", "as it was")
					write(t, cfg.Target, "d/gone", "x")
					opened(t, cfg.Source, "d/open")
					opened(t, cfg.Source, "d/open [a]*?\\x")
					out, err := open(t, cfg).Sync(t.Context(), lane, scoped("d", scope))
					must(t, err)
					var again []string
					for _, c := range out.Again {
						again = append(again, c.Path)
					}
					slices.Sort(again)
					if !slices.Equal(again, []string{"d/open", "d/open [a]*?\\x"}) || len(out.Failed) > 0 {
						t.Errorf("outcome %+v, want the two open files again", out)
					}
					gone := "x"
					if remove {
						gone = "missing"
					}
					for p, want := range map[string]string{
						"d/whole": "d/whole", "d/plain\\x": "d/plain\\x", "d/open": "as it was", "d/open [a]*?\\x": "missing", "d/gone": gone,
					} {
						if got := read(cfg.Target, p); got != want {
							t.Errorf("%s is %q, want %q", p, got, want)
						}
					}
				})
			}
		}
	}
}

// A file that changes while its tree is copied may be there as a beginning.
func TestWhatChangesWhileItsTreeIsCopiedGoesRoundAgain(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "d/a", "x")
	write(t, cfg.Source, "d/b", "x")
	cfg.RsyncPath = script(t, `rsync "$@"; code=$?; echo more >> "`+cfg.Source+`/d/a"; echo new >"`+cfg.Source+`/d/new"; exit $code`)
	out := shipBulk(t, open(t, cfg), scoped("d", fastsync.Tree))
	var again []string
	for _, c := range out.Again {
		again = append(again, c.Path)
	}
	slices.Sort(again)
	if !slices.Equal(again, []string{"d/a", "d/new"}) {
		t.Errorf("again %v, want what changed", again)
	}
}

func TestTheLiveLaneLeavesWhatIsLargeToTheOther(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "photo", "x")
	write(t, cfg.Source, "small/a/b", "x")
	for _, p := range []string{"video", "films/video"} {
		write(t, cfg.Source, p, "")
		must(t, os.Truncate(filepath.Join(cfg.Source, p), maxLiveSize+1))
	}
	for i := range maxLiveTree + 1 {
		write(t, cfg.Source, "many/"+strconv.Itoa(i), "")
	}
	var batch []fastsync.Change
	for _, p := range []string{"small", "films", "many"} {
		batch = append(batch, scoped(p, fastsync.Tree)...)
	}
	r := open(t, cfg)
	out, err := r.Sync(t.Context(), fastsync.Live, append(batch, entry("keep", "photo", "video")...))
	must(t, err)
	var bulk []string
	for _, c := range out.Bulk {
		bulk = append(bulk, c.Path)
	}
	if !slices.Equal(bulk, []string{"films", "many", "video"}) {
		t.Errorf("left to the bulk lane: %v", bulk)
	}
	if read(cfg.Target, "photo")+read(cfg.Target, "small/a/b") != "xx" || read(cfg.Target, "many/1") != "missing" {
		t.Error("the live lane did not ship what is small, and only that")
	}
	clean(t, shipBulk(t, r, out.Bulk))
	same(t, compare(t, r, nil))
}

func withoutDescriptors(t *testing.T, do func()) {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	do()
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}

// A directory that cannot be opened for want of descriptors is not one with nothing in
// it: what the live lane found so would count as shipped.
func TestADirectoryThatCannotBeReadNowIsNoEmptyOne(t *testing.T) {
	cfg := setup(t)
	write(t, cfg.Source, "d/f", "x")
	r := open(t, cfg)
	to := sorter{r: r, lane: fastsync.Live, out: &fastsync.Outcome{}, begun: time.Now()}
	var gone error
	withoutDescriptors(t, func() {
		to.placeSmall(fastsync.Change{Path: "d", Scope: fastsync.Tree}, nil, true)
		gone = r.survey("none", false, nil)
	})
	if len(to.out.Bulk) != 1 {
		t.Errorf("%+v, want it to go round again on the bulk lane", to.out)
	}
	if gone == nil || r.survey("none", false, nil) != nil {
		t.Error("what is gone is passed over, where that can be known, and only there")
	}
}

// It passes by itself; what waits for a person is tried again much later.
func TestAnRsyncThatCannotBeStartedNowIsTriedAgainSoon(t *testing.T) {
	r := open(t, setup(t))
	var res result
	withoutDescriptors(t, func() {
		res = r.run(t.Context(), call{fastsync.Live, []string{"--version"}, nil, func(item) {}, nil})
	})
	if err := r.judge(t.Context(), res); fastsync.ClassOf(err) != fastsync.Transient || !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Errorf("%v", err)
	}
}

// A tree may be deeper than there are descriptors.
func TestADeepTreeTakesFewDescriptors(t *testing.T) {
	cfg := setup(t)
	const depth = 100
	write(t, cfg.Source, strings.Repeat("d/", depth)+"f", "x")
	r := open(t, cfg)
	most, seen := 0, 0
	must(t, r.survey("d", true, func(string, fs.DirEntry) error {
		files, err := os.ReadDir("/proc/self/fd")
		most, seen = max(most, len(files)), seen+1
		return err
	}))
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	if seen != depth || most > len(files)+2 {
		t.Errorf("%d entries are seen, with %d descriptors, %d are open now", seen, most, len(files))
	}
}
