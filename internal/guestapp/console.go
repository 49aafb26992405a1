package guestapp

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// console is the machine's, on which the agent says what it does until it is on the bus: from then on it can be asked. Lines of the log go there too,
// without a form for machines.
type console struct {
	log *slog.Logger

	mu  sync.Mutex
	dev *os.File // nil: nothing is said any more
}

// openConsole opens the device. A console that cannot be opened is no reason not to work.
func openConsole(path string, log *slog.Logger) *console {
	c := &console{log: log}
	if path == "" {
		return c
	}
	dev, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		log.Warn("console could not be opened", "err", err)
		return c
	}
	c.dev = dev
	c.log = slog.New(teeHandler{log.Handler(), c})
	c.say("the agent starts")
	return c
}

func (c *console) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dev == nil {
		return
	}
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	fmt.Fprintf(c.dev, "[trove %7.2f] %s\n", float64(up.Nano())/1e9, text)
}

// joined says that the bus is reached, and is the end of it.
func (c *console) joined() {
	c.say("the agent is on the bus; what it does now is in the instance's logs")
	c.close()
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dev != nil {
		c.dev.Close()
		c.dev = nil
	}
}

// teeHandler says on the console what it hands on. Debugging is not for the console.
type teeHandler struct {
	slog.Handler
	c *console
}

// Handle implements slog.Handler.
func (h teeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		var b strings.Builder
		b.WriteString(r.Message)
		r.Attrs(func(a slog.Attr) bool {
			fmt.Fprintf(&b, " %s=%s", a.Key, strings.ReplaceAll(a.Value.Resolve().String(), "\n", "; "))
			return true
		})
		h.c.say(b.String())
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return teeHandler{h.Handler.WithAttrs(attrs), h.c}
}

// WithGroup implements slog.Handler.
func (h teeHandler) WithGroup(name string) slog.Handler {
	return teeHandler{h.Handler.WithGroup(name), h.c}
}
