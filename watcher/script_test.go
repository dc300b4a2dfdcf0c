package watcher

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastsync/fastsync"
)

// script runs one file of testdata. A line is a command:
//
//	mkdir P | write P | append P | rm P | mv A B | ln A B | ln-s A B | chmod MODE P
//	hold-open P | close P    keep a file open for writing, close it
//	settle                   wait until all of the above is published
//	forget                   settle, then forget all events
//	since | catch-up         note the time, catch up from it; "../P" is beside the root
//
// After "Output:" comes the set of "scope path" that must have been published,
// "none" for nothing. A line that begins with "fsnotify" is for that backend;
// fanotify may leave it out, as it looks up paths when it reads.
type script struct {
	*rig
	held map[string]*os.File
	// made are what settle waits for: a walk of a new directory ends later than the
	// events around it.
	made  []string
	since time.Time
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			eachBackend(t, func(t *testing.T, by func(*Watcher)) { runScript(t, string(text), by) })
		})
	}
}

func runScript(t *testing.T, text string, by func(*Watcher)) {
	commands, output, _ := strings.Cut(text, "Output:\n")
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	s := script{rig: start(t, root, func(w *Watcher) { by(w); w.cfg.slack = 0 }), held: map[string]*os.File{}}
	defer func() {
		for _, f := range s.held {
			f.Close()
		}
	}()
	for line := range strings.Lines(commands) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(line, "#") {
			s.must(s.do(words[0], words[1:]))
		}
	}
	s.check(strings.Split(strings.TrimSpace(output), "\n"))
}

func (s *script) do(command string, args []string) error {
	at := func(i int) string { return s.path(args[i]) }
	switch command {
	case "mkdir":
		s.makes(args[0])
		return os.MkdirAll(at(0), 0o700)
	case "write":
		s.makes(args[0])
		return os.WriteFile(at(0), []byte("x"), 0o600)
	case "append", "hold-open":
		f, err := os.OpenFile(at(0), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if _, err = f.WriteString("more"); err != nil || command == "append" {
			s.makes(args[0])
			return errorsFirst(err, f.Close())
		}
		s.held[args[0]] = f
	case "close":
		f := s.held[args[0]]
		delete(s.held, args[0])
		return f.Close()
	case "rm":
		return os.RemoveAll(at(0))
	case "mv":
		return unix.Rename(at(0), at(1)) // os.Rename refuses to replace an empty directory
	case "ln":
		return os.Link(at(0), at(1))
	case "ln-s":
		return os.Symlink(args[0], at(1))
	case "chmod":
		mode, err := strconv.ParseUint(args[0], 8, 32)
		return errorsFirst(err, os.Chmod(at(1), os.FileMode(mode)))
	case "settle":
		s.settleAll()
	case "forget":
		s.settleAll()
		s.forget()
	case "since":
		return s.mark()
	case "catch-up":
		return s.CatchUp(s.t.Context(), s.since)
	default:
		return fmt.Errorf("unknown command %q", command)
	}
	return nil
}

func (s *script) makes(path string) {
	if !strings.HasPrefix(path, "../") {
		s.made = append(s.made, path)
	}
}

// settleAll is settle, also for what comes later than the events around it: a walk,
// and a probe that met a writer.
func (s *script) settleAll() {
	s.t.Helper()
	s.settle()
	for _, p := range s.made {
		s.wait(s.t, p, func(events []fastsync.Event) bool { return covered(events, p) })
	}
	s.made = nil
	eventually(s.t, "only files that are held open wait", func() bool { return s.Status().Pending <= len(s.held) })
	s.settle()
}

// mark notes a time that everything before is older than: it makes files
// beside the root until the file system's clock has moved on.
func (s *script) mark() error {
	probe := filepath.Join(filepath.Dir(s.root), "clock")
	stamp := func() (time.Time, error) {
		if err := os.WriteFile(probe, nil, 0o600); err != nil {
			return time.Time{}, err
		}
		if err := os.Chmod(probe, 0o600); err != nil {
			return time.Time{}, err
		}
		info, err := os.Lstat(probe)
		if err != nil {
			return time.Time{}, err
		}
		return ctime(info), nil
	}
	first, err := stamp()
	for s.since = first; err == nil && !s.since.After(first.Add(20*time.Millisecond)); {
		s.since, err = stamp()
	}
	return err
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *script) check(want []string) {
	s.t.Helper()
	var may []string
	for i, line := range want {
		if only, ok := strings.CutPrefix(line, "fsnotify "); ok {
			if want[i] = only; s.cfg.Mode != Fsnotify {
				want[i], may = "", append(may, only)
			}
		}
	}
	want = slices.DeleteFunc(want, func(l string) bool { return l == "" || l == "none" })
	slices.Sort(want)
	for _, line := range want {
		scope, path, _ := strings.Cut(line, " ")
		s.waitFor(s.t, path, fastsync.Scope(scope))
	}
	s.settleAll()
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	var got []string
	for _, e := range s.events {
		line := string(e.Scope) + " " + e.Path
		if !strings.HasPrefix(e.Path, ".settle") && !slices.Contains(may, line) {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	got, want = withoutCovered(slices.Compact(got)), withoutCovered(want)
	if s.cfg.Mode == Fanotify {
		// It looks paths up when it reads: what was done in a directory before it
		// moved here may be told by its new name, below its tree.
		got = slices.DeleteFunc(got, func(e string) bool {
			p, entry := strings.CutPrefix(e, "entry ")
			return entry && !slices.Contains(want, e) && slices.ContainsFunc(want, func(e string) bool {
				dir, tree := strings.CutPrefix(e, "tree ")
				return tree && strings.HasPrefix(p, dir+"/")
			})
		})
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("published\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// withoutCovered leaves out the entries whose tree is there too: the kernel tells of a
// directory that moves twice, and the second may or may not become an event.
func withoutCovered(events []string) []string {
	return slices.DeleteFunc(slices.Clone(events), func(e string) bool {
		p, entry := strings.CutPrefix(e, "entry ")
		return entry && slices.Contains(events, "tree "+p)
	})
}
