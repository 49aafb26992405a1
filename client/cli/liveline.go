package cli

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/trove-dbaas/trove/api/wire"
)

const (
	barWidth     = 20
	defaultWidth = 80 // columns of a terminal that does not tell
)

// liveLine shows the state of an operation: one line that is drawn again on a terminal, a line for each change elsewhere.
type liveLine struct {
	env   Env
	last  string
	drawn bool
}

// describe says what is being done: the step and, if it says more, the sentence.
func describe(op wire.Operation) string {
	what := op.Step
	if s := strings.TrimSpace(op.Sentence); s != "" && !strings.EqualFold(strings.TrimSuffix(s, "."), op.Step) {
		what += ": " + s
	}
	if op.Undoing {
		what = "undoing " + what
	}
	return strings.TrimPrefix(what, ": ")
}

func (l *liveLine) show(op wire.Operation) {
	took := max(op.Updated.Sub(op.Created).Seconds(), 0)
	percent := min(max(op.Percent, 0), 100)
	if !l.env.Interactive {
		if text := fmt.Sprintf("%3d %% %s", percent, describe(op)); text != l.last {
			fmt.Fprintf(l.env.Stderr, "%s (%.1f s)\n", text, took)
			l.last = text
		}
		return
	}
	filled := percent * barWidth / 100
	text := fmt.Sprintf("[%s%s] %3d %% (%.1f s) %s", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), percent, took, describe(op))
	fmt.Fprintf(l.env.Stderr, "\r\x1b[K%s", cut(text, l.width()-1)) // a line that wraps could not be drawn again
	l.drawn = true
}

// note says something once, on a line of its own.
func (l *liveLine) note(text string) {
	l.end()
	fmt.Fprintln(l.env.Stderr, text)
}

// end leaves the line as it is; what comes next stands below it.
func (l *liveLine) end() {
	if l.drawn {
		fmt.Fprintln(l.env.Stderr)
		l.drawn = false
	}
}

func (l *liveLine) width() int {
	if f, ok := l.env.Stderr.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > barWidth {
			return w
		}
	}
	return defaultWidth
}

// cut shortens a text to a number of runes.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}
