// Package php_test runs the PHP class against a real Redis, with a stand-in for
// the agent and the subscribers.
package php_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func need(t *testing.T) {
	t.Helper()
	fault := ""
	if _, err := exec.LookPath("php"); err != nil {
		fault = err.Error()
	}
	if out, err := exec.Command("php", "-m").Output(); err != nil || !strings.Contains(string(out), "\nredis\n") {
		fault += " php has no redis extension"
	}
	switch {
	case fault == "":
	case os.Getenv("CI") != "":
		t.Fatal(fault)
	default:
		t.Skip(fault)
	}
}

// startRedis returns the socket of a Redis of the test's own.
func startRedis(t *testing.T) (socket string, client *redis.Client) {
	t.Helper()
	need(t)
	options := redistest.Start(t)
	return options.Addr, redistest.Client(t, options)
}

var keys = fastsync.NewKeys("media")

func beat(t *testing.T, client *redis.Client, target string, at time.Time) {
	t.Helper()
	state, err := json.Marshal(map[string]any{"target": target, "heartbeat": at})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.HSet(t.Context(), keys.Targets(), target, state).Err(); err != nil {
		t.Fatal(err)
	}
}

// agent answers each message as live targets a and b would, until the test
// ends, and keeps what it heard.
func agent(t *testing.T, client *redis.Client) (heard chan string) {
	t.Helper()
	pubsub := client.Subscribe(t.Context(), "new_files")
	if _, err := pubsub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard = make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := pubsub.ReceiveMessage(context.Background())
			if err != nil {
				return
			}
			heard <- m.Payload
			deliver(client, m.Payload)
		}
	}()
	t.Cleanup(func() { _ = pubsub.Close(); <-done })
	return heard
}

func deliver(client *redis.Client, text string) {
	var message struct {
		Paths []string
		Ref   string
	}
	if json.Unmarshal([]byte(text), &message) != nil {
		return
	}
	for _, p := range message.Paths {
		for _, target := range []string{"a", "b"} {
			ok, why := "1", ""
			if strings.Contains(p, "bad") && target == "b" {
				ok, why = "0", "permission denied"
			}
			if strings.Contains(p, "never") && target == "b" {
				continue
			}
			client.XAdd(context.Background(), &redis.XAddArgs{Stream: keys.Deliveries(), Values: []any{
				"event", "1-1", "path", p, "target", target, "ref", message.Ref,
				"ok", ok, "took", "1000", "error", why,
			}})
		}
	}
}

// php runs code with $f, the class, on the socket; what it prints comes back.
func php(t *testing.T, socket, code string) string {
	t.Helper()
	prelude := `error_reporting(E_ALL); set_error_handler(function ($n, $s) { throw new ErrorException($s); });
		require 'fastsync.php'; $r = new Redis(); $r->connect(getenv('SOCKET'));
		$r->setOption(Redis::OPT_PREFIX, 'cms:'); $r->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
		$f = new Fastsync($r); `
	cmd := exec.CommandContext(t.Context(), "php", "-r", prelude+code)
	cmd.Env = append(os.Environ(), "SOCKET="+socket)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestClass(t *testing.T) {
	socket, client := startRedis(t)
	heard := agent(t, client)
	beat(t, client, "a", time.Now())
	beat(t, client, "b", time.Now())
	beat(t, client, "gone", time.Time{})
	beat(t, client, "stopped", time.Now().Add(-time.Hour))
	for name, c := range map[string]struct{ code, want string }{
		"no ref":         {`echo $f->publish('a.jpg');`, "1"},
		"all there":      {`$f->publish(['a.jpg', 'ü "#;.jpg'], '17'); echo json_encode([$f->wait('17'), $f->lastError()]);`, "[true,null]"},
		"many paths":     {`$f->publish(array_map(fn ($i) => str_repeat('x', 90) . $i, range(1, 2500)), 'm'); echo json_encode($f->wait('m'));`, "true"},
		"twice":          {`$f->publish('a', 't'); $f->publish('b', 't'); echo json_encode($f->wait('t'));`, "true"},
		"failed":         {`$f->publish('bad.jpg', 'x'); echo json_encode($f->wait('x')), $f->lastError();`, "falseb: bad.jpg: permission denied"},
		"one missing":    {`$f->publish(['n', 'never'], 'y'); echo json_encode($f->wait('y', [], 0.3)), $f->lastError();`, "falsenot within 0.3 s at: b"},
		"named target":   {`$f->publish('never', 'z'); echo json_encode([$f->wait('z', ['a'], 1), $f->wait('z', ['stopped'], 0.1)]);`, "[true,false]"},
		"not UTF-8":      {`echo $f->publish(["\xff.jpg", 'q'], 'u'), json_encode($f->wait('u'));`, "1false"},
		"unknown ref":    {`echo json_encode($f->wait('nobody', [], 0.1));`, "false"},
		"bad scope":      {`try { $f->publish('a', null, 'all'); } catch (InvalidArgumentException $e) { echo 'refused'; }`, "refused"},
		"bad ref":        {`try { $f->publish('a', "\xff"); } catch (InvalidArgumentException $e) { echo 'refused'; }`, "refused"},
		"nothing":        {`try { $f->publish([]); } catch (InvalidArgumentException $e) { echo 'refused'; }`, "refused"},
		"short timeouts": {`$r->setOption(Redis::OPT_READ_TIMEOUT, 0.2); echo json_encode($f->wait('nobody', [], 0.6));`, "false"},
		"other channel":  {`echo (new Fastsync($r, 'media', 'nobody'))->publish('a.jpg');`, "0"},
		"redis away":     {`$r->close(); $g = new Redis(); try { new Fastsync($g); } catch (RuntimeException $e) { echo 'away'; }`, "away"},
		"long escapes":   {`echo $f->publish(str_repeat("\x01", 2000));`, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := php(t, socket, c.code); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	const end = "that was all"
	if err := client.Publish(t.Context(), "new_files", end).Err(); err != nil {
		t.Fatal(err)
	}
	bare := 0
	for text := <-heard; text != end; text = <-heard {
		if len(text) > 8192 {
			t.Errorf("a message of %d bytes", len(text))
		}
		if text == "\xff.jpg" || text == strings.Repeat("\x01", 2000) {
			bare++
		} else if !json.Valid([]byte(text)) {
			t.Errorf("neither JSON nor a bare path: %q", text[:min(len(text), 100)])
		}
	}
	if bare != 2 {
		t.Errorf("%d bare paths, want 2", bare)
	}
}

// The README's ACL line is enough for the class, and for nothing else.
func TestACLOfTheREADME(t *testing.T) {
	socket, client := startRedis(t)
	agent(t, client)
	beat(t, client, "a", time.Now())
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nACL SETUSER ")
	line, _, _ := strings.Cut(rest, "\n")
	args := []any{"ACL", "SETUSER"}
	for _, word := range strings.Fields(line) {
		args = append(args, word)
	}
	if err := client.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	code := `$r->rawCommand('AUTH', 'cms', 'PASSWORD'); $f = new Fastsync($r);
		$f->publish('a.jpg', 'acl'); echo json_encode($f->wait('acl'));
		try { $r->rawCommand('XADD', 'fastsync:{media}:events', '*', 'path', 'x'); echo 'added'; }
		catch (RedisException $e) { echo substr($e->getMessage(), 0, 6); }`
	if got := php(t, socket, code); got != "trueNOPERM" {
		t.Errorf("got %q", got)
	}
}
