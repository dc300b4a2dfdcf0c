package rsyncer

import (
	"context"
	"errors"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func TestARunThatLosesItsConnectionAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, target, _ := overSSH(t, func(cfg *Config) {
		cfg.RsyncPath = script(t, `if [ -e `+dir+`/lose ]; then rm `+dir+`/lose; exit 255; fi; exec rsync "$@"`)
	})
	before := ready(t, r, 2)
	write(t, dir, "lose", "")
	clean(t, shipBulk(t, r, entry("keep")))
	if after := waiting(r); read(target, "keep") != "keep" || !slices.Equal(before, after) {
		t.Errorf("%v became %v: those of the other lane were ended for it", before, after)
	}
}

// An ssh that is stopped takes connections and answers none: nobody may wait for it.
func TestAConnectionThatHangs(t *testing.T) {
	t.Parallel()
	for _, lane := range []fastsync.Lane{fastsync.Live, fastsync.Bulk} {
		t.Run(string(lane), func(t *testing.T) {
			t.Parallel()
			r, target, _ := overSSH(t, func(cfg *Config) { cfg.Stall = 12 * time.Second })
			clean(t, shipBulk(t, r, entry("keep")))
			write(t, r.cfg.Source, "a", "a")
			before := ready(t, r, 2)
			signal(t, syscall.SIGSTOP, masterOf(r, lane))
			begun := time.Now()
			out, err := r.Sync(context.Background(), lane, entry("a"))
			if err != nil || len(out.Failed) > 0 || read(target, "a") != "a" || time.Since(begun) > r.cfg.Stall/2 {
				t.Errorf("%+v, %v after %v", out, err, time.Since(begun))
			}
			if after := ready(t, r, 2); lane == fastsync.Bulk && !slices.Equal(before, after) {
				t.Errorf("%v became %v: those of the other lane were ended for it", before, after)
			}
		})
	}
}

// An ssh that could not be started has no process, and nobody else is to end for it.
func TestTheEndOfAnSSHThatNeverWas(t *testing.T) {
	was := syscall.Getpgrp()
	must(t, syscall.Setpgid(0, 0)) // for whoever runs the tests
	defer func() { must(t, syscall.Setpgid(0, was)) }()
	ended := make(chan os.Signal, 1)
	ossignal.Notify(ended, syscall.SIGTERM)
	defer ossignal.Stop(ended)
	m := &master{ended: make(chan struct{})}
	time.AfterFunc(10*time.Millisecond, func() { close(m.ended) })
	m.end(time.Second)
	select {
	case <-ended:
		t.Error("this process is ended")
	case <-time.After(100 * time.Millisecond):
	}
}

// A login that hangs after ssh's own limit for it delays batches but a moment.
func TestALoginThatHangs(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	target := cfg.Target
	cfg.Stall, cfg.Warm = 4*time.Second, 1
	rsh := sshServer(t)
	wrapper := filepath.Join(t.TempDir(), "ssh")
	must(t, os.WriteFile(wrapper, []byte("#!/bin/sh\n[ \"$1\" = -M ] && exec sleep 1000\nexec ssh \"$@\"\n"), 0o755))
	cfg.Rsh, cfg.Target = wrapper+strings.TrimPrefix(rsh, "ssh"), "127.0.0.1:"+target
	r := open(t, cfg)
	running(t, r)
	begun := time.Now()
	clean(t, shipBulk(t, r, entry("keep")))
	if took := time.Since(begun); took > longestLogin/2 {
		t.Errorf("it took %v", took)
	}
	ready(t, r, 1) // by a login of its own
	arrives(t, r, cfg.Source, target, "a")
}

func TestAConnectionLostWhileItShips(t *testing.T) {
	t.Parallel()
	r, target, _ := overSSH(t, nil)
	must(t, os.Truncate(filepath.Join(r.cfg.Source, "keep"), 4<<30)) // all holes, all sent
	done := make(chan error, 1)
	go func() {
		_, err := r.Sync(context.Background(), fastsync.Bulk, entry("keep"))
		done <- err
	}()
	eventually(t, "it ships", func() bool { found, _ := filepath.Glob(target + "/.keep.*"); return len(found) > 0 })
	signal(t, syscall.SIGKILL, masterOf(r, fastsync.Bulk))
	err := <-done
	var run *fastsync.RunError
	if !errors.As(err, &run) || run.Class != fastsync.Transient {
		t.Errorf("%v", err)
	}
}
