package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
)

const (
	dialTimeout  = 5 * time.Second
	queryTimeout = 30 * time.Second
)

// conn is a connection of the agent's.
type conn struct{ redis.Conn }

// with runs do over a connection of its own through the local socket, as the agent's account. A server that is down or cannot answer now is Unavailable.
func (p place) with(ctx context.Context, do func(c conn) error) error {
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) {
		return p.unavailable(err) // never prepared, so never started
	}
	if err != nil {
		return err
	}
	return p.over(ctx, p.socket(), do, redis.DialUsername(adminName), redis.DialPassword(k.Admin))
}

// over runs do over a connection through the socket.
func (p place) over(ctx context.Context, socket string, do func(c conn) error, options ...redis.DialOption) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	options = append(options, redis.DialConnectTimeout(dialTimeout), redis.DialReadTimeout(queryTimeout), redis.DialWriteTimeout(queryTimeout))
	c, err := redis.DialContext(ctx, "unix", socket, options...)
	if err != nil {
		return p.classify(fmt.Errorf("connect to the server: %w", err))
	}
	defer func() { _ = c.Close() }()
	return p.classify(do(conn{c}))
}

func (c conn) do(ctx context.Context, command string, args ...any) (any, error) {
	return redis.DoContext(c.Conn, ctx, command, args...)
}

// run runs a command whose answer says nothing more than that it was done.
func (c conn) run(ctx context.Context, command string, args ...any) error {
	_, err := c.do(ctx, command, args...)
	return err
}

// info returns the fields of sections of INFO.
func (c conn) info(ctx context.Context, sections ...any) (map[string]string, error) {
	text, err := redis.String(c.do(ctx, "INFO", sections...))
	if err != nil {
		return nil, fmt.Errorf("ask for the server's figures: %w", err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); found {
			fields[name] = value
		}
	}
	return fields, nil
}

// parameters returns the values that the server has; one that it does not know is missing.
func (c conn) parameters(ctx context.Context, names []string) (map[string]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	args := []any{"GET"}
	for _, name := range names {
		args = append(args, name)
	}
	values, err := redis.StringMap(c.do(ctx, "CONFIG", args...))
	if err != nil {
		return nil, fmt.Errorf("read the server's parameters: %w", err)
	}
	return values, nil
}

// busy are the beginnings of errors that say that the server cannot answer now: it reads its data, a script runs, all connections are taken.
var busy = []string{"LOADING ", "BUSY ", "ERR max number of clients"}

// classify marks errors that say that the server cannot answer now. Errors with a kind stay as they are.
func (p place) classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	if said, ok := errors.AsType[redis.Error](err); ok {
		for _, b := range busy {
			if strings.HasPrefix(string(said), b) {
				return p.unavailable(err)
			}
		}
		return err
	}
	_, isNet := errors.AsType[net.Error](err)
	if isNet || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) {
		return p.unavailable(err)
	}
	return err
}

func (p place) unavailable(err error) error {
	return trove.Wrap(trove.KindUnavailable, err, "The database server does not answer.")
}
