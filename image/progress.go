package image

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
)

// packageWatch reads what mmdebstrap, apt and dpkg say, and makes progress of it. The two output streams write to it at the same time.
type packageWatch struct {
	b     *build
	total int // packages, by the lock; a guess before there is one

	mu       sync.Mutex
	rest     []byte
	fetched  int
	unpacked int
	ready    int
	stage    string
	said     string

	saidPercent int
	last        []string // the last lines that look like trouble, or the last ones at all
}

// bootstrapPercent is the share of a build that installing packages takes.
const bootstrapPercent = 70

func newPackageWatch(b *build) *packageWatch {
	w := &packageWatch{b: b, total: len(b.locked.Packages)}
	if w.total == 0 {
		w.total = 80
	}
	return w
}

// Write takes a piece of the output.
func (w *packageWatch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, after, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.line(strings.TrimSpace(string(line)))
		w.rest = after
	}
}

func (w *packageWatch) line(line string) {
	if line == "" {
		return
	}
	w.b.spec.Log.Debug("package installer wrote", "line", line)
	if w.last = append(w.last, line); len(w.last) > 30 {
		w.last = w.last[1:]
	}
	switch {
	case strings.HasPrefix(line, "I: "):
		if stage, known := stages[strings.TrimRight(strings.TrimPrefix(line, "I: "), ".")]; known {
			w.stage = stage
		}
	case strings.HasPrefix(line, "Get:"):
		if w.stage == downloading || w.stage == remaining {
			w.fetched++
		}
	case strings.HasPrefix(line, "Unpacking ") || strings.Contains(line, " --unpack "):
		w.unpacked++
	case strings.HasPrefix(line, "Setting up "):
		w.ready++
	}
	text := w.stage
	if w.ready > 0 {
		text = fmt.Sprintf("Installing packages: %d of %d.", min(w.ready, w.total), w.total)
	}
	if percent := w.percent(); text != "" && (text != w.said || percent != w.saidPercent) {
		w.said, w.saidPercent = text, percent
		w.b.say(percent, "%s", text)
	}
}

// percent counts downloads, unpacking and setting up as one each.
func (w *packageWatch) percent() int {
	done := min(w.fetched, w.total) + min(w.unpacked, w.total) + min(w.ready, w.total)
	return bootstrapPercent * done / (3 * w.total)
}

const (
	downloading = "Downloading packages."
	remaining   = "Installing the engine's packages."
)

// stages are what mmdebstrap says of itself, for people.
var stages = map[string]string{
	"running apt-get update":                          "Reading the package archive.",
	"downloading packages with apt":                   downloading,
	"extracting archives":                             "Extracting the essential packages.",
	"installing essential packages":                   "Installing the essential packages.",
	"installing remaining packages inside the chroot": remaining,
}

// evidence returns the lines that say what went wrong.
func (w *packageWatch) evidence() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var bad []string
	for _, l := range w.last {
		if strings.HasPrefix(l, "W: Download is performed unsandboxed") { // the cache is closed to apt's own account
			continue
		}
		if strings.HasPrefix(l, "E: ") || strings.HasPrefix(l, "Err:") || strings.HasPrefix(l, "dpkg: error") || strings.HasPrefix(l, "W: ") ||
			strings.Contains(l, "No space left") || strings.Contains(l, "ould not connect") {
			bad = append(bad, l)
		}
	}
	if len(bad) == 0 {
		bad = w.last[max(0, len(w.last)-5):]
	}
	return strings.Join(bad, "; ")
}
