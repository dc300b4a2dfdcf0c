package redisserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// askFor is how long whoever listens may take to answer PING.
const askFor = time.Second

// Check tells whether [Server.Run] could start now: the state directory is free
// and nobody else listens on [Config.Listen]. The child of a fastsync that was
// killed a moment ago gets up to 5 s to end. It leaves nothing behind. Call it
// before Run: a running Server is in its own way.
func (s *Server) Check() error {
	ctx, cancel := context.WithTimeout(context.Background(), farewell+askFor)
	defer cancel()
	if err := s.checkLock(); err != nil {
		return err
	}
	if err := s.awaitOld(ctx); err != nil {
		return err
	}
	return s.checkListen(ctx)
}

func (s *Server) checkListen(ctx context.Context) error {
	if s.cfg.Listen == "" {
		return nil
	}
	// Binding asks the kernel itself; it also sees a listener that never accepts.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Listen)
	if err == nil {
		return listener.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("redis-server cannot listen on %s: %w; give another --redis-listen", s.cfg.Listen, err)
	}
	if ping(ctx, "tcp", s.cfg.Listen) == answerNone {
		return fmt.Errorf("something that does not answer as Redis already listens on %s: "+
			"give another --redis-listen, or use a Redis elsewhere with --redis redis://HOST:6379", s.cfg.Listen)
	}
	return fmt.Errorf("a Redis already listens on %s: use it with --redis redis://%s, "+
		"or give another --redis-listen", s.cfg.Listen, s.cfg.Listen)
}

// answer is what came back to a PING.
type answer int

const (
	// answerNone: nobody, or not a Redis.
	answerNone answer = iota
	// answerRedis: a Redis that loads its data, wants a password or has too many clients.
	answerRedis
	// answerPong: a Redis that serves.
	answerPong
)

// ping asks by hand: go-redis would retry, and start a pool to learn one word.
func ping(ctx context.Context, network, address string) answer {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return answerNone
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	// A ctx that ends early must not wait for the deadline.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return answerNone
	}
	line, _ := bufio.NewReaderSize(conn, 512).ReadSlice('\n')
	reply := string(line)
	if reply == "+PONG\r\n" {
		return answerPong
	}
	for _, known := range []string{"-NOAUTH ", "-LOADING ", "-DENIED ", "-MASTERDOWN ", "-MISCONF ", "-BUSY ", "-ERR max number of clients"} {
		if strings.HasPrefix(reply, known) {
			return answerRedis
		}
	}
	return answerNone
}
