package main

import (
	"flag"
	"os"
	"syscall"
	"time"
)

// sizes is how much is measured.
type sizes struct {
	files            int // single files
	rate             int // files a second
	steady           time.Duration
	step             time.Duration // of each rate on the way to the limit
	top              int           // the highest rate tried
	burst, dirs      int
	slow             time.Duration // that one burst is written over
	rounds           int           // of fastsync's burst and of the large directory
	crowd, crowdDirs int           // the burst whose memory is looked at
	huge, changed    int
	watched          int   // directories
	entries          int   // of the tree that is caught up with and swept
	video            int64 // bytes
	idle             time.Duration
	patience         time.Duration
}

var full = sizes{
	files: 40, rate: 100, steady: 15 * time.Second, step: 10 * time.Second, top: 6400, burst: 10_000, dirs: 200, slow: 7 * time.Second, rounds: 3,
	crowd: 100_000, crowdDirs: 1000, huge: 1_000_000, changed: 3000, watched: 110_000, entries: 510_000, video: 2 << 30, idle: time.Minute, patience: 2 * time.Minute,
}

var small = sizes{
	files: 6, rate: 100, steady: 3 * time.Second, step: 2 * time.Second, top: 400, burst: 2000, dirs: 40, slow: 2 * time.Second, rounds: 1,
	crowd: 10_000, crowdDirs: 100, huge: 50_000, changed: 500, watched: 5000, entries: 20_400, video: 200 << 20, idle: 5 * time.Second, patience: time.Minute,
}

func (s *sizes) addFlags(f *flag.FlagSet) {
	f.IntVar(&s.files, "files", s.files, "single files, 50 kB each, 150 to 600 ms apart; the slower tools get a share of them")
	f.IntVar(&s.rate, "rate", s.rate, "files of 20 kB a second, of the steady load")
	f.DurationVar(&s.steady, "steady", s.steady, "how long the steady load goes on")
	f.DurationVar(&s.step, "step", s.step, "how long each rate is held on the way to the limit")
	f.IntVar(&s.top, "top", s.top, "the highest rate tried")
	f.IntVar(&s.burst, "burst", s.burst, "files of the burst, 10 kB each")
	f.IntVar(&s.dirs, "dirs", s.dirs, "new directories of the burst")
	f.DurationVar(&s.slow, "slow", s.slow, "how long the slow burst's write takes")
	f.IntVar(&s.rounds, "rounds", s.rounds, "rounds of fastsync's burst and of the large directory, of which the median is shown")
	f.IntVar(&s.crowd, "crowd", s.crowd, "files of the burst whose memory is looked at, 1 kB each")
	f.IntVar(&s.crowdDirs, "crowd-dirs", s.crowdDirs, "new directories of it")
	f.IntVar(&s.huge, "huge", s.huge, "files of the large directory")
	f.IntVar(&s.changed, "changed", s.changed, "files that change in it, 1 kB each")
	f.IntVar(&s.watched, "watched", s.watched, "directories of the tree that is watched")
	f.IntVar(&s.entries, "entries", s.entries, "entries of the tree that is copied, caught up with and swept")
	f.Int64Var(&s.video, "video", s.video, "bytes of a video beside which single files are shipped")
	f.DurationVar(&s.idle, "idle", s.idle, "how long idleness is watched")
	f.DurationVar(&s.patience, "patience", s.patience, "how long a tool may take for one thing")
}

// shrink takes the small sizes for what no flag gave.
func (s *sizes) shrink(f *flag.FlagSet) {
	given := map[string]string{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = fl.Value.String() })
	*s = small
	f.VisitAll(func(fl *flag.Flag) {
		if text, ok := given[fl.Name]; ok {
			_ = fl.Value.Set(text) // it was parsed once
		}
	})
}

// roomy is a folder in memory where there is one with 6 GB free: a file system's
// mood made the same write take 0.4 s and 9 s.
func roomy() string {
	var st syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &st); err == nil && st.Bavail*uint64(st.Bsize) > 6<<30 {
		return "/dev/shm"
	}
	return os.TempDir()
}
