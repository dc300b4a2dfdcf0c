package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/rsyncer"
)

func newDoctor() *cobra.Command {
	s := &service{agent: true, subscribers: true, log: zerolog.Nop()}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Try what fastsync relies on, on this host and its targets, and say what to do about what is missing",
		Args: noArgs("fastsync doctor, with the --source, --target and --redis that run is to have"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{out: cmd.OutOrStdout(), s: s, told: map[string]bool{}}
			for _, fault := range lines(s.cfg.load(cmd)) {
				d.bad("settings", fault)
			}
			d.examine(cmd.Context())
			return d.result()
		},
	}
	s.cfg.addFlags(cmd.Flags())
	return cmd
}

// doctor looks and writes one line for each finding. It ships nothing and leaves
// nothing behind.
type doctor struct {
	out          io.Writer
	s            *service
	sound        int
	risks, wrong int
	told         map[string]bool // faults
	found        survey
}

func (d *doctor) say(level, what, text string) {
	text = strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 22))
	fmt.Fprintf(d.out, "%-5s %-15s %s\n", level, what, text)
}

// good, risk and bad are the three kinds of finding: nothing to do, works but
// worse, does not work. The last two say what to do.
func (d *doctor) good(what, format string, args ...any) {
	d.sound++
	d.say("ok", what, fmt.Sprintf(format, args...))
}

func (d *doctor) risk(what, format string, args ...any) {
	d.risks++
	d.say("RISK", what, fmt.Sprintf(format, args...))
}

func (d *doctor) bad(what, text string) {
	if d.told[text] {
		return // several targets have it
	}
	d.told[text] = true
	d.wrong++
	d.say("FAULT", what, text)
}

func (d *doctor) result() error {
	if d.wrong > 0 {
		return fmt.Errorf("%d of %d findings are faults; each says what to do", d.wrong, d.sound+d.risks+d.wrong)
	}
	fmt.Fprintf(d.out, "no fault; %d risks\n", d.risks)
	return nil
}

func (d *doctor) examine(ctx context.Context) {
	s := d.s
	rooted := s.cfg.Source != ""
	if rooted || len(s.cfg.Targets) > 0 {
		for _, fault := range lines(s.prepareParts()) {
			d.bad("settings", fault)
		}
	}
	d.rsync(ctx)
	if rooted && rsyncer.Local(s.cfg.Source) {
		d.root(ctx)
	}
	d.redis(ctx)
	for i, t := range s.targets {
		if i < len(s.syncers) && s.syncers[i] != nil {
			d.target(ctx, t, s.syncers[i])
		}
	}
	if !rooted || len(s.cfg.Targets) == 0 {
		d.risk("settings", "the root and the targets were not looked at: give the --source and --target, or the --config, that fastsync is to have")
	}
}

// lines are the faults of a joined error.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// rsync tries by what it does, not by its version, whether rsync can be relied on.
func (d *doctor) rsync(ctx context.Context) {
	if err := rsyncer.Installed(); err != nil {
		d.bad("rsync", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tried, err := rsyncer.Try(ctx)
	if err != nil {
		d.bad("rsync", err.Error())
		return
	}
	failed := 0
	for _, t := range tried {
		if t.Err != nil {
			failed++
			d.bad("rsync", fmt.Sprintf("%s: it does not: %v\nupdate rsync to 3.2.3 or newer, on both sides", t.What, t.Err))
		}
	}
	if failed == 0 {
		d.good("rsync", "does all %d things that were tried of it", len(tried))
	}
}

// target logs in as a batch would, and compares a few files.
func (d *doctor) target(ctx context.Context, t target, r *rsyncer.Rsyncer) {
	what := "target " + t.Name
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.Unconfined(); err != nil {
		d.risk(what, "rsync is not confined to the root and the target, nor kept from files that are being written: %v", err)
	} else if err := r.Unlocked(); err != nil {
		d.risk(what, "the kernel holds rsync to the root and the target, but does not keep it from files that are being written: %v", err)
	} else {
		d.good(what, "the kernel holds rsync to the root and the target, and to files that nobody writes")
	}
	if rsyncer.Local(t.Dest) {
		d.folder(what, t.Dest)
	}
	begun := time.Now()
	differ := 0
	asked := d.sample()
	err := r.Compare(ctx, asked, func(fastsync.Difference) { differ++ })
	took := time.Since(begun)
	var unread *fastsync.Unread
	switch {
	case ctx.Err() != nil:
		d.bad(what, "no answer within a minute; a login must not ask anything: try ssh -o BatchMode=yes HOST true")
	case errors.As(err, &unread):
		d.risk(what, "%v", err)
	case err != nil:
		d.bad(what, err.Error())
	case len(asked) > 0 && differ == len(asked):
		d.risk(what, "answers after %s, but all %d files that were compared differ there: it was never swept, or keeps times less exactly than the root. See what fastsync sweep --dry-run says once fastsync runs", took.Round(time.Millisecond), differ)
	default:
		d.good(what, "answers after %s; %d of %d files that were compared differ", took.Round(time.Millisecond), differ, len(asked))
	}
}
