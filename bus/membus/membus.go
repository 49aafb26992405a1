// Package membus is a bus inside one process: for tests, and the yardstick that other drivers are measured by (bustest).
//
// Messages of one publisher reach each subscription in the order in which they were sent. Nothing is kept for subscribers that come later.
// A broker knows no identities: every connection may use every subject. Knobs lose messages and answers on purpose, because
// a real bus does so too. Everything may be used from several goroutines.
package membus

import (
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/bus"
)

// Broker connects its connections with each other.
type Broker struct {
	mu      sync.Mutex
	subs    map[*subscription]struct{}
	conns   map[*conn]struct{}
	faults  []*fault
	dropped int
}

// fault does something to messages or answers: after skip matching ones, to the next count.
type fault struct {
	pattern string
	answers bool
	what    mischief
	delay   time.Duration
	skip    int
	count   int
}

type mischief uint8

const (
	lose mischief = iota
	double
	postpone
)

// New returns a broker without connections.
func New() *Broker {
	return &Broker{subs: map[*subscription]struct{}{}, conns: map[*conn]struct{}{}}
}

// Conn returns a new connection. The name is only for the text of errors; two connections may share it.
func (b *Broker) Conn(name string) bus.Conn {
	c := &conn{broker: b, name: name, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = struct{}{}
	return c
}

// Close closes all connections and waits for their handlers.
func (b *Broker) Close() error {
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	return nil
}

// DropMessage loses the nth message from now on (1 is the next) whose subject matches the pattern; commands are messages too. The sender
// of a lost request waits until its time is over.
func (b *Broker) DropMessage(pattern string, n int) {
	b.addFault(&fault{pattern: pattern, skip: n - 1, count: 1})
}

// DropReplies loses the next count answers to requests on subjects that match the pattern; the requests themselves arrive.
func (b *Broker) DropReplies(pattern string, count int) {
	b.addFault(&fault{pattern: pattern, answers: true, count: count})
}

// DropReply loses the nth answer from now on (1 is the next) to a request on a subject that matches the pattern; the request itself arrives.
func (b *Broker) DropReply(pattern string, n int) {
	b.addFault(&fault{pattern: pattern, answers: true, skip: n - 1, count: 1})
}

// DoubleMessage delivers the nth message from now on twice, as a bus that promises at least once may. The second answer to a request is
// lost, as it is where nobody waits for it any more.
func (b *Broker) DoubleMessage(pattern string, n int) {
	b.addFault(&fault{pattern: pattern, what: double, skip: n - 1, count: 1})
}

// DelayMessage delivers the nth message from now on after a while, when others have overtaken it.
func (b *Broker) DelayMessage(pattern string, n int, d time.Duration) {
	b.addFault(&fault{pattern: pattern, what: postpone, delay: d, skip: n - 1, count: 1})
}

// Dropped returns how many messages and answers the knobs have lost so far.
func (b *Broker) Dropped() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// Listening reports whether some subscription would receive a message on the subject. Tests poll it before they send.
func (b *Broker) Listening(subject string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		if match(s.pattern, subject) {
			return true
		}
	}
	return false
}

func (b *Broker) addFault(f *fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, f)
}

// befalls decides with b.mu held what knobs do to this message or answer: whether it is lost, doubled, delayed.
func (b *Broker) befalls(subject string, answer bool) (lost, doubled bool, delay time.Duration) {
	for _, f := range b.faults {
		if f.answers != answer || f.count == 0 || !match(f.pattern, subject) {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		f.count--
		lost = lost || f.what == lose
		doubled = doubled || f.what == double
		delay = max(delay, f.delay)
	}
	if lost {
		b.dropped++
	}
	return lost, doubled, delay
}

// send hands a message to every plain subscription and to one member of each queue, and returns how many would have received it.
// A lost message counts as received: its sender cannot tell.
func (b *Broker) send(m bus.Message) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var to []*subscription
	queues := map[string][]*subscription{}
	for s := range b.subs {
		switch {
		case !match(s.pattern, m.Subject):
		case s.queue == "":
			to = append(to, s)
		default:
			queues[s.queue] = append(queues[s.queue], s)
		}
	}
	for _, members := range queues {
		to = append(to, members[rand.IntN(len(members))]) //nolint:gosec // choosing a member of a queue is no secret
	}
	lost, doubled, delay := b.befalls(m.Subject, false)
	if lost {
		return len(to)
	}
	for _, s := range to {
		if delay > 0 {
			time.AfterFunc(delay, func() { s.push(m) })
			continue
		}
		s.push(m)
		if doubled {
			s.push(m)
		}
	}
	return len(to)
}

// match reports whether the subject is one of those that the pattern stands for.
func match(pattern, subject string) bool {
	for {
		p, pRest, pMore := strings.Cut(pattern, ".")
		s, sRest, sMore := strings.Cut(subject, ".")
		if p == ">" {
			return true
		}
		if p != "*" && p != s || pMore != sMore {
			return false
		}
		if !pMore {
			return true
		}
		pattern, subject = pRest, sRest
	}
}
