package lab

import "testing"

// Two rigs that look for a port at a time may find the same one.
func TestAnotherRedisIsNotTakenForOnesOwn(t *testing.T) {
	first, err := NewRedis(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer first.End()
	second := &Redis{Port: first.Port, dir: t.TempDir()}
	if err := second.Start(t.Context()); err == nil {
		t.Error("it uses another one's")
	}
	second.End()
}
