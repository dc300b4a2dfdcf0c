package subscriber

import "time"

// State is what a subscriber tells about its target, kept as JSON in the
// targets hash and read by `fastsync status`.
type State struct {
	Target      string `json:"target"`
	Destination string `json:"destination"`
	// Pair is what is kept the same: another root or destination is a gap.
	Pair string `json:"pair,omitempty"`
	// Holder is the process that serves the target, HOST:PID:ID; others stand by.
	Holder string `json:"holder,omitempty"`
	// Delete tells whether what is gone from the root goes at the target.
	Delete bool `json:"delete,omitempty"`
	// Unconfined says why the kernel does not hold rsync to the root and the
	// target; empty where it does.
	Unconfined string `json:"unconfined,omitempty"`
	// Unlocked says why rsync, though confined, may read a file that is opened for
	// writing meanwhile; empty where it does not.
	Unlocked string `json:"unlocked,omitempty"`
	// Health is "ok", "sweeping", "degraded" (something may differ) or "failing".
	Health string `json:"health"`
	// Why says what keeps Health from ok, and what to do.
	Why string `json:"why,omitempty"`
	// NextTry is when a failing target is tried again, zero for one that is not.
	NextTry time.Time `json:"next_try,omitzero"`
	// Heartbeat is written every few seconds; older than 30 s means that
	// nobody serves the target.
	Heartbeat    time.Time `json:"heartbeat"`
	Waiting      int       `json:"waiting"`
	OldestAt     time.Time `json:"oldest_at,omitzero"`
	LastDelivery time.Time `json:"last_delivery,omitzero"`
	Delivered    int64     `json:"delivered"`
	Failed       int       `json:"failed"`
	// SweepFault says why the sweep cannot compare; empty while it can.
	SweepFault string `json:"sweep_fault,omitempty"`
	// Gap says why events may have been lost since the last sweep; empty for no gap.
	Gap string `json:"gap,omitempty"`
	// Held names deletions that a brake stopped, HeldCount counts all of them.
	Held      []string `json:"held,omitempty"`
	HeldCount int      `json:"held_count,omitempty"`
	Sweep     Sweep    `json:"sweep"`
	// Answers are the sweeps that operators asked for and that ended in the last minute.
	Answers []Sweep `json:"answers,omitempty"`
	// RedisRun is the run of the Redis that the state was written to.
	RedisRun string `json:"redis_run,omitempty"`
}

// Sweep is the last or running sweep.
type Sweep struct {
	Running  bool          `json:"running"`
	DryRun   bool          `json:"dry_run,omitempty"`
	ID       string        `json:"id,omitempty"`
	Started  time.Time     `json:"started,omitzero"`
	Finished time.Time     `json:"finished,omitzero"`
	Took     time.Duration `json:"took_ns,omitempty"`
	Err      string        `json:"error,omitempty"`
	// Drift counts paths that differed, Repaired those shipped so far, Left
	// those that still differ after it (of a dry run: all). Extra counts paths only the target
	// has, which stay while deletes are off.
	Drift    int      `json:"drift"`
	Repaired int      `json:"repaired"`
	Left     int      `json:"left"`
	Extra    int      `json:"extra"`
	Names    []string `json:"names,omitempty"`
}

// maxNames bounds the names kept of a sweep's drift and of held deletions.
const maxNames = 1000
