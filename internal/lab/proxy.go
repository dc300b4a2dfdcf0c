package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Proxy stands before a TCP service and does to what passes what networks do:
// it is late, stops, or breaks connections off. Bandwidth is unlimited, nothing
// is lost or reordered; to connect takes a round trip.
type Proxy struct {
	to       string
	listener net.Listener
	running  sync.WaitGroup
	done     chan struct{}

	// The mutex is for those who change what it does, and for Close.
	mu      sync.Mutex
	conns   map[net.Conn]bool
	delay   time.Duration // each way
	flowing chan struct{} // closed while bytes flow
	refuses bool
}

// NewProxy listens on a port of its own for what is at the address to.
func NewProxy(to string, delay time.Duration) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for a proxy: %w", err)
	}
	p := &Proxy{to: to, delay: delay, listener: l, done: make(chan struct{}), conns: map[net.Conn]bool{}, flowing: make(chan struct{})}
	close(p.flowing)
	p.running.Go(p.accept)
	return p, nil
}

// Delay sets the time that each byte takes each way, from now on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Hole makes it swallow all bytes, which is what a cable does that is cut: no
// connection ends. What was swallowed passes when it is over, as TCP sends it again.
func (p *Proxy) Hole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flowing:
		if on {
			p.flowing = make(chan struct{})
		}
	default:
		if !on {
			close(p.flowing)
		}
	}
}

// Refuse makes it end every new connection at once.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = on
}

// Reset breaks off all connections, with a reset to both sides.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (p *Proxy) state() (delay time.Duration, flowing chan struct{}, refuses bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay, p.flowing, p.refuses
}

// Port is where it listens on loopback.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Close ends all connections and waits for what handles them.
func (p *Proxy) Close() {
	close(p.done)
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// keep remembers a connection for close; false when that was called already.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		c.Close()
		return false
	default:
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(c) {
			p.running.Go(func() { p.serve(c) })
		}
	}
}

func (p *Proxy) serve(near net.Conn) {
	defer p.drop(near)
	delay, flowing, refuses := p.state()
	if refuses {
		return
	}
	select {
	case <-time.After(2 * delay): // SYN there, SYN-ACK back
	case <-p.done:
		return
	}
	select {
	case <-flowing:
	case <-p.done:
		return
	}
	far, err := net.Dial("tcp", p.to)
	if err != nil || !p.keep(far) {
		return
	}
	defer p.drop(far)
	var both sync.WaitGroup
	both.Go(func() { p.pipe(near, far) })
	both.Go(func() { p.pipe(far, near) })
	both.Wait()
}

// chunk is what was read at once; the last one has no data.
type chunk struct {
	due  time.Time
	data []byte
}

// queue is one direction: what was read and is not due yet.
type queue struct {
	mu     sync.Mutex // between the reader and the writer
	chunks []chunk
	more   chan struct{} // has a token after chunks grew
}

func (q *queue) put(c chunk) {
	q.mu.Lock()
	q.chunks = append(q.chunks, c)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) take() []chunk {
	q.mu.Lock()
	defer q.mu.Unlock()
	chunks := q.chunks
	q.chunks = nil
	return chunks
}

// pipe moves one direction until its end, and hands that on as late as the data.
func (p *Proxy) pipe(from, to net.Conn) {
	q := &queue{more: make(chan struct{}, 1)}
	var reading sync.WaitGroup
	reading.Go(func() { p.fill(q, from) })
	p.drain(q, to)
	// Nobody takes what comes now: the other side is to learn that at once.
	_ = from.(*net.TCPConn).CloseRead()
	reading.Wait()
}

func (p *Proxy) fill(q *queue, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		delay, _, _ := p.state()
		due := time.Now().Add(delay)
		if n > 0 {
			q.put(chunk{due, append([]byte(nil), buf[:n]...)})
		}
		if err != nil {
			q.put(chunk{due: due})
			return
		}
	}
}

func (p *Proxy) drain(q *queue, to net.Conn) {
	alarm, err := newAlarm()
	if err != nil {
		to.Close()
		return
	}
	defer alarm.Close()
	for {
		select {
		case <-q.more:
		case <-p.done:
			return
		}
		for _, c := range q.take() {
			if alarm.until(c.due) != nil {
				return
			}
			_, flowing, _ := p.state()
			select {
			case <-flowing:
			case <-p.done:
				return
			}
			if c.data == nil {
				_ = to.(*net.TCPConn).CloseWrite()
				return
			}
			if _, err := to.Write(c.data); err != nil {
				return
			}
		}
	}
}

// alarm wakes within some 50 µs of a time, where time.Sleep may take another
// millisecond: the runtime rounds what it waits for in epoll.
type alarm struct {
	fd   int
	file *os.File
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	return &alarm{fd, os.NewFile(uintptr(fd), "timer")}, nil
}

func (a *alarm) Close() { a.file.Close() }

func (a *alarm) until(due time.Time) error {
	left := time.Until(due)
	if left <= 0 {
		return nil
	}
	if err := unix.TimerfdSettime(a.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(left.Nanoseconds())}, nil); err != nil {
		return err
	}
	var rang [8]byte
	n, err := a.file.Read(rang[:])
	if err == nil && (n != 8 || binary.NativeEndian.Uint64(rang[:]) == 0) {
		return errors.New("the timer did not ring")
	}
	return err
}
