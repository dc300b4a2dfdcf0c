package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fastsync/fastsync/watcher"
)

func printStatus(w io.Writer, st status, now time.Time) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("%s", verdict(st, now))
	if st.RedisFault != "" {
		p("redis     %s", st.RedisFault)
	}
	printAgent(p, st, now)
	for _, t := range st.Targets {
		printTarget(p, t, now)
	}
}

func printAgent(p func(string, ...any), st status, now time.Time) {
	a := st.Agent
	if a == nil {
		p("agent     %s: none has run yet", st.Root)
		return
	}
	if now.Sub(a.Heartbeat) > alive {
		p("agent     %s: GONE since %s; start it again", a.Source, ago(now, a.Heartbeat))
	} else {
		p("agent     %s: watch %s, %s, %d published paths relayed, %d refused; fastsync %s", a.Source, a.Watch.Mode, watched(a.Watch), a.Relayed, a.Refused, a.Version)
	}
	catchUp := "last catch-up " + ago(now, a.CaughtUp)
	if !a.CatchingUp.IsZero() {
		catchUp = "a catch-up began " + ago(now, a.CatchingUp)
	}
	p("          %s; %s", a.Chosen, catchUp)
	if a.CatchUpFault != "" {
		p("          the last catch-up failed and is tried again: %s", a.CatchUpFault)
	}
	if a.Watch.RootError != "" {
		p("          %s", a.Watch.RootError)
	}
	if a.RedisFault != "" {
		p("          redis takes no events; they are kept and tried again: %s", a.RedisFault)
	}
	if a.Watch.Unwatched > 0 && a.Watch.Mode == watcher.Fanotify {
		p("          not all is watched: %s", a.Watch.Reason)
	} else if a.Watch.Unwatched > 0 {
		p("          %d directories are not watched: %s", a.Watch.Unwatched, a.Watch.Reason)
	}
}

// watched says how much is watched: one mark of fanotify covers a whole file
// system, so that nobody knows the number of directories.
func watched(w watcher.Status) string {
	if w.Mode == watcher.Fanotify {
		return "the whole file system"
	}
	return fmt.Sprintf("%d directories", w.Watched)
}

// printTarget puts what is wrong first, then the figures.
func printTarget(p func(string, ...any), t targetStatus, now time.Time) {
	health := strings.ToUpper(t.Health)
	if !t.Live {
		health = "GONE since " + ago(now, t.Heartbeat) + "; start its subscriber again"
	}
	p("target    %s → %s: %s", t.Target, t.Destination, health)
	if t.Why != "" {
		p("          why: %s", t.Why)
	}
	if wait := t.NextTry.Sub(now); wait > 0 {
		p("          next try in %s; it heals by itself once the cause is gone", (wait + time.Second/2).Round(time.Second))
	}
	if t.SweepFault != "" && t.SweepFault != t.Why {
		p("          the sweep cannot compare: %s", t.SweepFault)
	}
	if t.Gap != "" {
		p("          gap: %s; a sweep will close it", t.Gap)
	}
	if t.Unconfined != "" {
		p("          rsync is not confined to the root and the target, nor kept from files that are being written: %s", t.Unconfined)
	}
	if t.Unlocked != "" {
		p("          rsync is not kept from files that are being written: %s", t.Unlocked)
	}
	p("          lag %d events, %.1f s; last delivery %s; %d delivered", t.LagEvents, t.LagSeconds, ago(now, t.LastDelivery), t.Delivered)
	if t.Sweep.Finished.IsZero() {
		p("          no sweep has finished yet: that the target equals the root is not proved")
	} else {
		p("          last sweep %s: drift %d, left %d, only at the target %d", ago(now, t.Sweep.Finished), t.Sweep.Drift, t.Sweep.Left, t.Sweep.Extra)
	}
	if len(t.Held) > 0 {
		p("          %d deletions held, such as %q: let them through with fastsync sweep --release --target %s", t.HeldCount, t.Held[0], t.Target)
	}
	failed := slices.DeleteFunc(slices.Clone(t.Paths), func(f failedEntry) bool { return f.Held }) // told above
	for _, f := range failed[:min(len(failed), 20)] {
		rarely := ""
		if f.Quarantined {
			rarely = "; in quarantine: tried once an hour, and by fastsync sweep"
		}
		p("          failed %q: %s (%d tries since %s%s)", f.Path, f.Why, f.Tries, ago(now, f.Since), rarely)
	}
	if len(failed) > 20 {
		p("          and %d more failed paths; see --json", len(failed)-20)
	}
}

// verdict is one line for whoever was woken up: all is well, or who is not.
func verdict(st status, now time.Time) string {
	var wrong []string
	if st.RedisFault != "" || st.Agent != nil && st.Agent.RedisFault != "" {
		wrong = append(wrong, "redis takes no writes")
	}
	switch a := st.Agent; {
	case a == nil:
		wrong = append(wrong, "no agent has run")
	case now.Sub(a.Heartbeat) > alive:
		wrong = append(wrong, "the agent is gone")
	case a.Watch.RootError != "":
		wrong = append(wrong, "the root is gone")
	case a.CatchUpFault != "":
		wrong = append(wrong, "the agent cannot catch up")
	}
	busy := 0
	for _, t := range st.Targets {
		switch {
		case !t.Live:
			wrong = append(wrong, t.Target+" is gone")
		case t.Health == "sweeping":
			busy++
		case t.Health != "ok":
			wrong = append(wrong, t.Target+" is "+t.Health)
		}
	}
	switch {
	case len(wrong) > 0:
		return "NOT OK    " + strings.Join(wrong, ", ")
	case len(st.Targets) == 0:
		return "NOT OK    no target has been served yet: start fastsync run or subscribe"
	case busy > 0:
		return fmt.Sprintf("OK        %d of %d targets are being swept", busy, len(st.Targets))
	}
	return fmt.Sprintf("OK        %d of %d targets have all that is known", len(st.Targets), len(st.Targets))
}

func ago(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return now.Sub(at).Round(time.Second).String() + " ago"
}
