package subscriber

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fastsync/fastsync"
)

func TestAckAcknowledgesAndTellsDeliveriesAcrossPages(t *testing.T) {
	client := startRedis(t)()
	q := opened(t, client, "web1")
	ids := write(t, client, "f", 2*page+1)
	for range 3 {
		take(t, q, ">")
	}
	if n := pending(t, client, "web1"); n != 2*page+1 {
		t.Fatalf("%d events were read, want all", n)
	}
	deliveries := make([]delivery, len(ids))
	for i := range deliveries {
		deliveries[i] = delivery{event: ids[i], path: fmt.Sprint("f", i), ref: "article 17", took: time.Second}
	}
	deliveries[2*page].why = "permission denied"
	if err := q.ack(t.Context(), ids, deliveries); err != nil {
		t.Fatal(err)
	}
	if n := pending(t, client, "web1"); n != 0 {
		t.Errorf("%d events are still unacknowledged", n)
	}
	told, err := client.XRange(t.Context(), keys.Deliveries(), "-", "+").Result()
	if err != nil || len(told) != len(ids) {
		t.Fatalf("%d deliveries (%v), want one each", len(told), err)
	}
	first, last := told[0].Values, told[2*page].Values
	if first["event"] != ids[0] || first["target"] != "web1" || first["ref"] != "article 17" || first["ok"] != "1" || first["took"] != "1000000" {
		t.Errorf("the first delivery is %v", first)
	}
	if last["path"] != fmt.Sprint("f", 2*page) || last["ok"] != "0" || last["error"] != "permission denied" {
		t.Errorf("the failed delivery is %v", last)
	}
}

func TestAGroupReadsWhatWasWrittenBeforeIt(t *testing.T) {
	client := startRedis(t)()
	write(t, client, "early", 2)
	if got := take(t, opened(t, client, "web1"), ">"); !slices.Equal(got, []string{"early0", "early1"}) {
		t.Errorf("read %v, want both", got)
	}
}

func TestOpeningAgainForgetsNothing(t *testing.T) {
	client := startRedis(t)()
	q := opened(t, client, "web1")
	since := time.UnixMicro(1).UTC()
	failed := map[string]failedPath{
		"a": {Why: "refused", Since: since, Tries: 3, Scope: fastsync.Tree},
		"b": {Why: "refused", Since: since, Tries: 1, Scope: fastsync.Entry},
	}
	if err := q.fail(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	if err := q.healed(t.Context(), []string{"b"}); err != nil {
		t.Fatal(err)
	}
	if err := q.save(t.Context(), State{Delivered: 7, Gap: "lost"}); err != nil {
		t.Fatal(err)
	}
	must(t, client, "HSET", keys.Failed("web1"), "../out", "{}") // from elsewhere: never to be shipped

	retry := map[fastsync.Change]failedPath{}
	state, err := serving(client, "web1").queue.open(t.Context(), retry)
	if err != nil {
		t.Fatal(err)
	}
	if state.Delivered != 7 || state.Gap != "lost" {
		t.Errorf("the state came back as %+v", state)
	}
	if len(retry) != 1 || retry[fastsync.Change{Path: "a", Scope: fastsync.Tree}] != failed["a"] {
		t.Errorf("the failed paths came back as %v, want a alone", retry)
	}
}

// trimmed is the queue of a target that has read three events; of the ten after them
// six were trimmed unread.
func trimmed(t *testing.T) *queue {
	t.Helper()
	client := startRedis(t)()
	q := opened(t, client, "web1")
	write(t, client, "f", 3)
	take(t, q, ">")
	write(t, client, "g", 10)
	capTo(t, client, 4)
	return q
}

func TestEventsTrimmedUnreadAreCountedOnce(t *testing.T) {
	q := trimmed(t)
	for i, want := range []int64{6, 0} {
		if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != want {
			t.Errorf("look %d: %d events lost (%v), want %d", i+1, lost, err, want)
		}
	}
	if got := take(t, q, ">"); !slices.Equal(got, []string{"g6", "g7", "g8", "g9"}) {
		t.Errorf("read %v after the look, want what is left", got)
	}
	if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != 0 {
		t.Errorf("%d events lost after all was read (%v), want 0", lost, err)
	}
}

// Who dies before a loss is in the state leaves it to the next start.
func TestALossThatIsNotSavedIsFoundAgain(t *testing.T) {
	q := trimmed(t)
	unsaved := func(int64) bool { return false }
	for i := range 2 {
		if lost, err := q.overtaken(t.Context(), unsaved); err != nil || lost != 6 {
			t.Errorf("look %d: %d events lost (%v), want 6", i+1, lost, err)
		}
	}
}

func TestATargetMissesNothingThatWasTrimmedBeforeIt(t *testing.T) {
	client := startRedis(t)()
	write(t, client, "f", 5)
	capTo(t, client, 2)
	q := opened(t, client, "web1")
	if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != 0 {
		t.Errorf("a new target: %d events lost (%v), want 0", lost, err)
	}
	capTo(t, client, 1)
	if lost, err := q.overtaken(t.Context(), anyhow); err != nil || lost != 1 {
		t.Errorf("one trimmed after that: %d events lost (%v), want 1", lost, err)
	}
}

func TestTrimDropsOnlyWhatEveryGroupAcknowledged(t *testing.T) {
	client := startRedis(t)()
	fast, slow := opened(t, client, "fast"), opened(t, client, "slow")
	ids := write(t, client, "f", 6)
	left := func(why string, want int64) {
		t.Helper()
		if err := fast.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := length(t, client, keys.Events()); n != want {
			t.Errorf("%s: %d events are left, want %d", why, n, want)
		}
	}
	ack := func(q *queue, ids ...string) {
		t.Helper()
		if err := q.ack(t.Context(), ids, nil); err != nil {
			t.Fatal(err)
		}
	}
	take(t, fast, ">")
	ack(fast, ids...)
	left("slow has read nothing", 6)
	take(t, slow, ">")
	left("slow has acknowledged nothing", 6)
	ack(slow, ids[0], ids[1], ids[3])
	left("the third one is on its way to slow", 4)
	ack(slow, ids[2], ids[4], ids[5])
	left("all is acknowledged", 1) // the last one marks the place
	if lost, err := slow.overtaken(t.Context(), anyhow); err != nil || lost != 0 {
		t.Errorf("%d events lost by trims of what was done (%v)", lost, err)
	}
}
