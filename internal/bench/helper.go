package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	notify "github.com/fsnotify/fsnotify"

	"github.com/fastsync/fastsync/internal/lab"
)

// helperFlag makes this program one of the bare things that fastsync is
// measured against: in a process of its own, so that its memory compares.
const helperFlag = "-helper"

// help does one thing, says how long it took, and stays until its input ends.
func help(what, root string) error {
	begun := time.Now()
	var err error
	switch what {
	case "watch":
		var kernel *notify.Watcher
		if kernel, err = notify.NewWatcher(); err == nil {
			defer kernel.Close()
			err = bareWalk(root, func(path string, d fs.DirEntry) error {
				if d.IsDir() {
					return kernel.Add(path)
				}
				return nil
			})
		}
	case "walk":
		err = bareWalk(root, func(_ string, d fs.DirEntry) error { _, err := d.Info(); return err })
	default:
		err = fmt.Errorf("no helper %q", what)
	}
	if err != nil {
		return explained(err)
	}
	fmt.Println(time.Since(begun))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func bareWalk(root string, each func(path string, d fs.DirEntry) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		return errors.Join(err, each(path, d))
	})
}

// bare is what a helper took: by its own clock, and with the start of its
// process; and its memory after that.
type bare struct {
	own, all time.Duration
	lab.Memory
}

// helper runs this program as a helper.
func (w *world) helper(ctx context.Context, what, root string) (bare, error) {
	self, err := os.Executable()
	if err != nil {
		return bare{}, err
	}
	cmd := exec.CommandContext(ctx, self, helperFlag, what, root)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return bare{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return bare{}, err
	}
	cmd.Stderr = os.Stderr
	begun := time.Now()
	g, err := lab.Start(cmd)
	if err != nil {
		return bare{}, err
	}
	defer g.End()
	defer stdin.Close()
	text, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return bare{}, fmt.Errorf("bare %s of %s: %w", what, root, err)
	}
	b := bare{all: time.Since(begun)}
	b.Memory, _ = lab.MemoryOf(g.Leader)
	b.own, err = time.ParseDuration(strings.TrimSpace(text))
	return b, err
}
