package fastsync

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Scope says how much below a path has to be looked at.
type Scope string

const (
	// Entry is the path alone: a file, a link, or a directory without what is in it.
	Entry Scope = "entry"
	// Listing is a directory and one level below it: what is in it and what is gone from it.
	Listing Scope = "listing"
	// Tree is the path and all that is below it.
	Tree Scope = "tree"
)

// Width orders scopes: the wider of two for one path covers the other. A scope
// that is none has 0.
func (s Scope) Width() int {
	switch s {
	case Tree:
		return 3
	case Listing:
		return 2
	case Entry:
		return 1
	}
	return 0
}

// Origin says who noticed a change.
type Origin string

const (
	// CMS events came by PUBLISH or `fastsync publish`.
	CMS Origin = "cms"
	// Watch events came from the kernel.
	Watch Origin = "watch"
	// CatchUp events came from the agent's walk of the root.
	CatchUp Origin = "catchup"
	// Handover events came from a subscriber that another one has replaced: what it
	// had in hand.
	Handover Origin = "handover"
)

// Change is a place to look at: what a syncer gets.
type Change struct {
	Path  string
	Scope Scope
	// Released is set when an operator let this deletion through the brake.
	Released bool
}

// Difference is a place where a target is not as the root.
type Difference struct {
	Change
	Gone  bool // only the target has it
	Times bool // a directory that differs by its time alone
}

// Event is one entry of the events stream.
type Event struct {
	Change
	Origin Origin
	// Ref is the CMS's own word to ask about later; empty for none.
	Ref string
	// At is when the change was noticed, kept with microseconds.
	At time.Time
}

// Values are the fields of the event in the stream.
func (e Event) Values() []any {
	values := []any{
		"path", e.Path, "scope", string(e.Scope),
		"origin", string(e.Origin), "at", strconv.FormatInt(e.At.UnixMicro(), 10),
	}
	if e.Ref != "" {
		values = append(values, "ref", e.Ref)
	}
	return values
}

// ParseEvent reads what [Event.Values] wrote. It returns an error that wraps
// [ErrPath] for a bad path, and a plain one for an unknown scope.
func ParseEvent(fields map[string]any) (Event, error) {
	text := func(key string) string { s, _ := fields[key].(string); return s }
	e := Event{
		Change: Change{Path: text("path"), Scope: Scope(text("scope"))},
		Origin: Origin(text("origin")),
		Ref:    text("ref"),
	}
	if micros, err := strconv.ParseInt(text("at"), 10, 64); err == nil {
		e.At = time.UnixMicro(micros)
	}
	if err := CheckPath(e.Path); err != nil {
		return Event{}, err
	}
	switch e.Scope {
	case "":
		e.Scope = Entry
	case Entry, Listing, Tree:
	default:
		return Event{}, fmt.Errorf("unknown scope %q: want entry, listing or tree", e.Scope)
	}
	return e, nil
}

// Lane is one of the two ways to a target, so that what is large delays nothing
// that is small.
type Lane string

const (
	// Live is for events: somebody waits for them.
	Live Lane = "live"
	// Bulk is for drift, large trees and files above 64 MB.
	Bulk Lane = "bulk"
)

// Failure is a change that could not be delivered, and why, in a sentence for
// an operator.
type Failure struct {
	Change
	Reason string
}

// Outcome is how a run ended for each change that was handed to it. What is
// in none of the lists is at the target.
type Outcome struct {
	// Failed changes were tried and refused one by one, as by a file that
	// nobody may read.
	Failed []Failure
	// Again holds changes whose file was open or changed while it was shipped.
	Again []Change
	// Waits holds changes that were not tried: another run ships all that is in their
	// directory just now.
	Waits []Change
	// Bulk holds changes that are too large for the live lane and were not tried.
	Bulk []Change
	// Untried says that the target was asked for nothing, so that it need not be there.
	Untried bool
	// Held are deletions that a brake stopped until an operator lets them through.
	Held []Change
	// Kept are paths gone from the root that stay at the target, since deletes are off.
	Kept int
	// Cut says that a run ended early: the beginnings of files may lie at the
	// target, in folders called [PartialDir].
	Cut bool
	// Late says that a run broke less than [LateFor] ago, whose other end may still put
	// files at the target that it had got before.
	Late bool
	// Deleted and Shipped count paths of the list, not files below them.
	Deleted, Shipped int
}

// LateFor is how long after its connection broke the other end of a run may still put
// files at the target: its rsync gives up after 60 s without a word.
const LateFor = 65 * time.Second

// PartialDir is the name of the folders in which a target keeps the beginning
// of a file whose transfer was cut, beside the file, for the next run to go on
// from.
const PartialDir = ".fastsync-partial"

// Unread is a comparison that saw all but some places: what differs there is
// not known, so it proves no equality.
type Unread struct{ Failures []Failure }

func (e *Unread) Error() string {
	first := e.Failures[0]
	return fmt.Sprintf("%d places could not be compared, such as %q: %s", len(e.Failures), first.Path, first.Reason)
}

// Class says what to do about a run that failed as a whole.
type Class int

const (
	// Transient failures go away by themselves: try again after a backoff.
	Transient Class = iota
	// Full means that the target has no room: try again after a long backoff.
	Full
	// Person means that trying again is useless until somebody acts.
	Person
)

// RunError is a run that failed as a whole. No path is to blame for it.
type RunError struct {
	Class Class
	// Code is rsync's exit code, -1 where rsync did not run or was killed.
	Code int
	// What happened, to what, and what to do, in a sentence for an operator.
	What string
	Err  error
}

func (e *RunError) Error() string { return e.What }
func (e *RunError) Unwrap() error { return e.Err }

// ClassOf returns the class of a [RunError] in err, [Transient] for any other error.
func ClassOf(err error) Class {
	var run *RunError
	if errors.As(err, &run) {
		return run.Class
	}
	return Transient
}
