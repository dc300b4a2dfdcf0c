package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fastsync/fastsync/internal/lab"
)

// contest is a tool at work on a source and a target.
type contest struct {
	*lab.Group
	w              *world
	tool           tool
	source, target string
	own            string
	log            *os.File
	seen           *arrivals
	// told hears of each file after it is closed; nil where the tool watches.
	told func(name string) error
}

// places are the folders of a contest. What is empty is made.
type places struct{ source, target, own string }

// folders makes what a tool on fresh folders needs.
func (w *world) folders() (places, error) {
	at, err := w.fresh()
	p := places{filepath.Join(at, "source"), filepath.Join(at, "target"), filepath.Join(at, "own")}
	for _, d := range []string{p.source, p.target, p.own} {
		if err == nil {
			err = os.Mkdir(d, 0o755)
		}
	}
	return p, err
}

// start runs a tool over a route. The caller ends it.
func (w *world) start(t tool, r route, p places, listen string) (*contest, error) {
	return w.startJob(t, p, job{source: p.source, targets: []string{r.to(p.target)}, rsh: r.rsh, own: p.own, listen: listen})
}

func (w *world) startJob(t tool, p places, j job) (*contest, error) {
	log, err := os.OpenFile(filepath.Join(p.own, "output"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := t.command(j)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), w.env...)
	g, err := lab.Start(cmd)
	if err != nil {
		log.Close()
		return nil, err
	}
	return &contest{Group: g, w: w, tool: t, source: p.source, target: p.target, own: p.own, log: log}, nil
}

// look waits for files of a size below the target from now on.
func (c *contest) look(size int64, linger time.Duration) (err error) {
	c.unlook()
	c.seen, err = newArrivals(c.target, size, linger)
	return err
}

func (c *contest) unlook() {
	if c.seen != nil {
		c.seen.close()
	}
	c.seen = nil
}

func (c *contest) end() {
	c.unlook()
	c.End()
	if c.w.verbose {
		fmt.Fprintf(os.Stderr, "%s\n", c.said())
	}
	c.log.Close()
}

// finish ends a contest on folders of its own, removes them, and adds to an
// error what the tool said last.
func (c *contest) finish(err error) error {
	c.end()
	if err != nil {
		said := c.said()
		err = fmt.Errorf("%s: %w; it said: %s", c.tool.name, err, said[max(0, len(said)-2000):])
	}
	return errors.Join(err, c.w.remove(filepath.Dir(c.source)))
}

func (c *contest) said() []byte {
	said, _ := os.ReadFile(c.log.Name())
	return said
}

// write makes one file and returns when it was closed.
func (c *contest) write(name string, data []byte) (time.Time, error) {
	c.seen.expect(name)
	if err := os.WriteFile(filepath.Join(c.source, name), data, 0o644); err != nil {
		return time.Time{}, err
	}
	closed := time.Now()
	if c.told != nil {
		return closed, c.told(filepath.Join(c.source, name))
	}
	return closed, nil
}

// ready waits until a file that is written arrives, and then for a while. A loop
// that does not watch yet misses the first ones.
func (c *contest) ready(ctx context.Context, rest time.Duration) error {
	if err := c.look(1, 0); err != nil {
		return err
	}
	defer c.unlook()
	for n, begun := 1, time.Now(); ; n++ {
		if _, err := c.write(fmt.Sprintf("ready-%d", n), []byte{1}); err != nil {
			return err
		}
		err := c.seen.wait(ctx, 2*c.tool.delay+2*time.Second, c.Ended)
		c.seen.forget()
		if err == nil {
			return lab.Pause(ctx, rest)
		}
		if !errors.Is(err, lab.ErrLate) || time.Since(begun) > c.w.sizes.patience {
			return fmt.Errorf("ships nothing: %w", err)
		}
	}
}

// line is one of fastsync's log.
type line struct {
	At      time.Time `json:"time"`
	Message string    `json:"message"`
	Took    float64   `json:"took"` // ms
	Found   int       `json:"found"`
	Drift   int       `json:"drift"`
}

func (l line) took() time.Duration { return time.Duration(l.Took * float64(time.Millisecond)) }

// lines are all in fastsync's log with a message.
func (c *contest) lines(message string) []line {
	var found []line
	for text := range bytes.Lines(c.said()) {
		var l line
		if json.Unmarshal(text, &l) == nil && strings.EqualFold(l.Message, message) {
			found = append(found, l)
		}
	}
	return found
}

// await returns the n-th line with a message.
func (c *contest) await(ctx context.Context, message string, n int) (line, error) {
	var found []line
	err := lab.Until(ctx, c.w.sizes.patience, 100*time.Millisecond, func() bool {
		found = c.lines(message)
		return len(found) >= n || c.over()
	})
	if err == nil && len(found) < n {
		err = errEnded
	}
	if err != nil {
		return line{}, fmt.Errorf("wait for %q in its log: %w", message, err)
	}
	return found[n-1], nil
}

// unwatched says what is not watched of a tree of some directories; empty for nothing.
func (c *contest) unwatched(ctx context.Context, where ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "bin/fastsync", append([]string{"status", "--json"}, where...)...).Output()
	if err != nil {
		return "", fmt.Errorf("fastsync status: %w", err)
	}
	var st struct {
		Agent struct {
			Watch struct {
				Unwatched int    `json:"unwatched"`
				Reason    string `json:"reason"`
			} `json:"watch"`
		} `json:"agent"`
	}
	if err := json.Unmarshal(out, &st); err != nil {
		return "", fmt.Errorf("fastsync status: %w", err)
	}
	if w := st.Agent.Watch; w.Unwatched > 0 {
		return fmt.Sprintf("%s: %d directories were NOT watched: %s", c.tool.name, w.Unwatched, w.Reason), nil
	}
	return "", nil
}

// noteUnwatched adds what unwatched says to a table: its figures are of a smaller tree.
func (c *contest) noteUnwatched(ctx context.Context, t *table, where ...string) error {
	text, err := c.unwatched(ctx, where...)
	if text != "" {
		t.note("%s", text)
	}
	return err
}

func (c *contest) over() bool {
	select {
	case <-c.Ended:
		return true
	default:
		return false
	}
}
