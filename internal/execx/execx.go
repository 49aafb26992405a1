// Package execx runs other programs: always with a context, in a process group of their own that ends with it, and with an error that shows
// the last lines of what the program said.
//
// Nothing secret may be in arguments or environment: both can be read by others on the machine. Functions may be called from several goroutines.
package execx

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Cmd describes one run of a program.
type Cmd struct {
	Path  string // a name to look up in PATH, or a path
	Args  []string
	Env   []string // nil: a minimal environment (PATH, LANG, HOME); never the whole one of this process
	Dir   string
	Stdin io.Reader
	// Stdout and Stderr get the output as it comes, beside what Run keeps.
	Stdout io.Writer
	Stderr io.Writer
	// Attr adds to the process attributes; the process group is set in any case.
	Attr *syscall.SysProcAttr
	// ExtraFiles become descriptors 3 and up.
	ExtraFiles []*os.File
}

// grace is how long a program may go on after its context ended and SIGTERM was sent.
const grace = 5 * time.Second

// tailBytes is how much of the standard error output an error shows.
const tailBytes = 2048

// Error is a program that could not be run or ended with a failure.
type Error struct {
	Path string
	Args []string
	Tail string // the last lines of its standard error output
	Err  error
}

// Error names the program and shows the end of what it said.
func (e *Error) Error() string {
	text := fmt.Sprintf("run %s: %v", strings.Join(append([]string{e.Path}, e.Args...), " "), e.Err)
	if e.Tail != "" {
		text += ": " + e.Tail
	}
	return text
}

// Unwrap returns the cause, an *exec.ExitError or *exec.Error.
func (e *Error) Unwrap() error { return e.Err }

// Run runs the program to its end and returns its standard output. When the context ends first, the whole process group is asked to end, then
// killed.
func Run(ctx context.Context, c Cmd) ([]byte, error) {
	cmd := Command(ctx, c)
	var out bytes.Buffer
	tail := &tailWriter{max: tailBytes}
	cmd.Stdout = multi(&out, c.Stdout)
	cmd.Stderr = multi(tail, c.Stderr)
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return out.Bytes(), &Error{Path: c.Path, Args: c.Args, Tail: tail.String(), Err: err}
	}
	return out.Bytes(), nil
}

// Command prepares a program in a process group of its own, which gets SIGTERM when the context ends and is killed a few seconds later. Output is
// the caller's to connect.
func Command(ctx context.Context, c Cmd) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...) //nolint:gosec // the caller names the program; this is the one place that runs it
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = MinimalEnv()
	}
	cmd.Dir, cmd.Stdin, cmd.ExtraFiles = c.Dir, c.Stdin, c.ExtraFiles
	attr := syscall.SysProcAttr{}
	if c.Attr != nil {
		attr = *c.Attr
	}
	attr.Setpgid = !attr.Setsid
	cmd.SysProcAttr = &attr
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd
}

// MinimalEnv is what a program gets to see of our environment.
func MinimalEnv() []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return []string{"PATH=" + path, "LANG=C.UTF-8", "HOME=/root"}
}

func multi(first, second io.Writer) io.Writer {
	if second == nil {
		return first
	}
	return io.MultiWriter(first, second)
}

// tailWriter keeps the last bytes written to it.
type tailWriter struct {
	buf []byte
	max int
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string { return strings.TrimSpace(string(t.buf)) }
