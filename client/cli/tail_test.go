package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// enough is an output that ends the command after some lines, as Ctrl-C does.
type enough struct {
	bytes.Buffer
	lines int
	stop  context.CancelFunc
}

func (e *enough) Write(p []byte) (int, error) {
	n, err := e.Buffer.Write(p)
	if bytes.Count(e.Bytes(), []byte("\n")) >= e.lines {
		e.stop()
	}
	return n, err
}

// TestTailFollows: each call goes on where the one before ended, and Ctrl-C is no failure.
func TestTailFollows(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := newShell(newFakeAPI())
	out := &enough{lines: 4, stop: cancel}
	s.env.Stdout = out
	root := s.command()
	root.SetArgs(strings.Fields("log tail shop error -n 7 -f"))
	if err := root.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	want := "line 1, at most \"7\"\nline 2, at most \"\"\nline 3, at most \"\"\nline 4, at most \"\"\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if !strings.Contains(s.stderr.String(), "begun anew") {
		t.Errorf("a log that was begun anew is not said: %q", s.stderr.String())
	}
}

func TestAutoscaleNeedsAMaximum(t *testing.T) {
	s := newShell(newFakeAPI())
	for _, call := range []string{
		"instance autoscale shop", "instance autoscale shop --max 9 --step much", "instance autoscale shop --max 9 --step 0", "instance autoscale shop --off --max 9",
		"instance statements shop --limit 0", "log tail shop error -n 0",
	} {
		if err := s.run(t, strings.Fields(call)...); err == nil {
			t.Errorf("trove %s was taken", call)
		}
	}
}
