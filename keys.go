package fastsync

import "strings"

// Keys names everything that fastsync keeps in Redis for one root. The braces
// keep one root on one cluster slot.
type Keys struct{ prefix string }

// NewKeys returns the keys of the root called name.
func NewKeys(name string) Keys { return Keys{"fastsync:{" + name + "}:"} }

// Events is the stream of [Event].
func (k Keys) Events() string { return k.prefix + "events" }

// Deliveries is the capped stream of what reached which target.
func (k Keys) Deliveries() string { return k.prefix + "deliveries" }

// Agent is the hash with the agent's checkpoint, heartbeat and state.
func (k Keys) Agent() string { return k.prefix + "agent" }

// Targets is the hash target name → state as JSON.
func (k Keys) Targets() string { return k.prefix + "targets" }

// Failed is the hash path → why, since and tries as JSON, of one target.
func (k Keys) Failed(target string) string { return k.prefix + "failed:" + target }

// Claim is the key that holds which process serves a target, and which root and
// destination its name stands for meanwhile; any other process waits.
func (k Keys) Claim(target string) string { return k.prefix + "claim:" + target }

// Control is the Pub/Sub channel by which an operator's commands reach one
// target's subscriber.
func (k Keys) Control(target string) string { return k.prefix + "control:" + target }

// Alive is the Pub/Sub channel that the process holder listens on for as long as
// it serves a target, or begins to; nothing is sent there.
func (k Keys) Alive(target, holder string) string { return k.Control(target) + ":" + holder }

// Doctor is the key of one look at what a Redis lets fastsync do.
func (k Keys) Doctor(id string) string { return k.prefix + "doctor:" + id }

// GoodName tells whether s can name a root or a target: letters, digits, "-",
// "_" and ".", at most 64 bytes.
func GoodName(s string) bool {
	ok := func(r rune) bool {
		return r == '-' || r == '_' || r == '.' ||
			'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0
}
