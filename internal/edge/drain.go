package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is one that can stop without losing a connection that was made: those that wait to be accepted are accepted first. Closing it as any other resets
// them, and their clients cannot know that nothing was done.
type Listener struct {
	net.Listener
	draining atomic.Bool
	rest     []net.Conn    // of Accept alone
	ended    chan struct{} // closed when all who waited were accepted
	once     sync.Once
}

// NewListener returns l as one that can drain, if it is one of TCP.
func NewListener(l net.Listener) *Listener { return &Listener{Listener: l, ended: make(chan struct{})} }

// Accept is net.Listener's. After Drain it returns who waits, and then net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	if len(l.rest) == 0 {
		c, err := l.Listener.Accept()
		if err == nil || !l.draining.Load() {
			return c, err //nolint:wrapcheck // as if it were not here
		}
		if tcp, ok := l.Listener.(*net.TCPListener); ok {
			l.rest = acceptRest(tcp)
		}
		_ = l.Close()
	}
	if len(l.rest) == 0 {
		l.once.Do(func() { close(l.ended) })
		return nil, net.ErrClosed
	}
	c := l.rest[0]
	l.rest = l.rest[1:]
	return c, nil
}

// Drain makes Accept end when nobody waits any more. From then on connections are refused.
func (l *Listener) Drain() {
	l.draining.Store(true)
	if tcp, ok := l.Listener.(*net.TCPListener); !ok || tcp.SetDeadline(time.Unix(1, 0)) != nil {
		_ = l.Close()
	}
}

// acceptRest accepts who waits, and lets nobody queue up behind them: whoever comes in the moment until the listener is closed is not answered, asks again
// and is refused then.
func acceptRest(l *net.TCPListener) (all []net.Conn) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) {
		nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
		for {
			n, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch {
			case err == nil:
				if c := connOf(n); c != nil {
					all = append(all, c)
				}
			case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED):
				return
			}
		}
	})
	return all
}

// connOf returns the connection of a descriptor, which it takes; nil if it is none.
func connOf(fd int) net.Conn {
	f := os.NewFile(uintptr(fd), "connection")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	return c
}

// Server is an HTTP server that stops without failing a request, in this order: connections are refused; long polls are told to end; answers tell their
// clients that the connection ends; those that have sent nothing for a while are closed; what runs is waited for.
type Server struct {
	http      *http.Server
	listeners []*Listener
	linger    time.Duration
	draining  chan struct{}
	stopping  atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	none  chan struct{} // closed when there is no connection; nil: nobody waits
}

// linger is how long a connection that is kept open may still bring a request when the server stops: clients that are busy use theirs in that time, and
// are told with the answer that it was the last one.
const linger = time.Second

// NewServer returns a server that serves with h on listeners that are the given ones, or stand before them. Draining, if it is not nil, is closed when
// the server begins to stop.
func NewServer(h *http.Server, draining chan struct{}, listeners ...*Listener) *Server {
	if draining == nil {
		draining = make(chan struct{})
	}
	s := &Server{http: h, listeners: listeners, linger: linger, draining: draining, conns: map[net.Conn]struct{}{}}
	inner := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(&lastAnswer{ResponseWriter: w, draining: s.draining}, r)
	})
	h.ConnState = s.changed
	return s
}

// lastAnswer tells the client that the connection ends, if the server stops when the answer begins.
type lastAnswer struct {
	http.ResponseWriter
	draining <-chan struct{}
	begun    bool
}

func (a *lastAnswer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	select {
	case <-a.draining:
		a.Header().Set("Connection", "close")
	default:
	}
}

func (a *lastAnswer) WriteHeader(status int) {
	a.begin()
	a.ResponseWriter.WriteHeader(status)
}

func (a *lastAnswer) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b) //nolint:wrapcheck // as if it were not here
}

// Unwrap is for http.ResponseController.
func (a *lastAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (s *Server) changed(c net.Conn, to http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch to {
	case http.StateNew:
		s.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	case http.StateActive, http.StateIdle:
	}
	if len(s.conns) == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
}

// empty returns a channel that is closed when there is no connection.
func (s *Server) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	none := make(chan struct{})
	if len(s.conns) == 0 {
		close(none)
	} else {
		s.none = none
	}
	return none
}

// Serve serves a listener until Stop and returns nil then.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(l)
	if s.stopping.Load() || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err //nolint:wrapcheck // the caller says whose server it is
}

// Stop stops the server and returns when all is still. What is not over when ctx ends is cut off. It is called once.
func (s *Server) Stop(ctx context.Context) {
	s.stopping.Store(true)
	for _, l := range s.listeners {
		l.Drain()
	}
	close(s.draining)
	lingers, cancel := context.WithTimeout(ctx, s.linger)
	defer cancel()
	for _, l := range s.listeners {
		select {
		case <-lingers.Done():
		case <-l.ended:
		}
	}
	select {
	case <-lingers.Done():
	case <-s.empty():
	}
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
}
