package guestagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// journalKeep is how many ended commands the journal remembers.
const journalKeep = 200

// maxOperationID is the longest id of a long command, in bytes: with every byte escaped it still is a file name, temporary ending included.
const maxOperationID = 76

// entry is a long command in the journal. Its arguments are not in it: they may hold passwords, and the journal is on the volume.
type entry struct {
	Seq       int64                    `json:"seq"`
	Command   guestapi.Command         `json:"command"`
	RequestID string                   `json:"req,omitempty"`
	Status    guestapi.OperationStatus `json:"status"`
	Known     bool                     `json:"known,omitempty"` // a controller has seen the end
}

// Journal is the memory of long commands: one file for each on the data volume, replaced whole, so that it survives a crash of the agent and of
// the machine. Arguments lie beside it in a tmpfs, mode 0600: they survive the agent, not the machine, and never reach a disk. A command whose
// arguments are lost with the machine is forgotten, which Status answers with "unknown": the controller gives it again.
type Journal struct {
	dir     string // on the volume
	secrets string // in the tmpfs
	log     *slog.Logger

	writing sync.Mutex // one writer; taken before mu

	mu      sync.Mutex
	entries map[string]*entry
	last    int64
}

// OpenJournal reads the journal, making its directories if they are missing. It forgets running commands whose arguments are gone.
func OpenJournal(dir, secrets string, log *slog.Logger) (*Journal, error) {
	j := &Journal{dir: dir, secrets: secrets, log: log, entries: map[string]*entry{}}
	for _, d := range []string{dir, secrets} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open the journal: %w", err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	for _, f := range files {
		if err := j.load(f.Name()); err != nil {
			return nil, err
		}
	}
	return j, nil
}

func (j *Journal) load(name string) error {
	path := filepath.Join(j.dir, name)
	if !strings.HasSuffix(name, ".json") || strings.HasPrefix(name, ".") {
		return removeFile(path) // left over by a crash in the middle of a write
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	var e entry
	if err := json.Unmarshal(data, &e); err != nil || j.path(e.Status.ID) != path {
		// Files are replaced whole, so this is a damaged volume. The command is forgotten, which the controller can mend.
		j.log.Error("journal entry was unreadable and forgotten", "file", name, "err", err)
		return removeFile(path)
	}
	if e.Status.State == guestapi.StateRunning && takesArgs(e.Command) {
		if _, err := os.Stat(j.argsPath(e.Status.ID)); errors.Is(err, os.ErrNotExist) {
			j.log.Warn("command was forgotten, its arguments went with the machine", "op", e.Status.ID, "command", e.Command)
			return removeFile(path)
		}
	}
	j.entries[e.Status.ID] = &e
	j.last = max(j.last, e.Seq)
	return nil
}

// Start records a command as running and reports whether it is new. A known id changes nothing; its state is returned.
func (j *Journal) Start(r guestapi.Request) (guestapi.OperationStatus, bool, error) {
	if r.ID == "" || len(r.ID) > maxOperationID {
		return guestapi.OperationStatus{}, false, trove.Errorf(trove.KindBadRequest, "An operation id has 1 to %d bytes.", maxOperationID)
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	known, ok := j.entries[r.ID]
	next := j.last + 1
	var status guestapi.OperationStatus
	if ok {
		status = known.Status
		if known.Command != r.Command {
			ok = false
		}
	}
	j.mu.Unlock()
	if known != nil {
		if !ok {
			return status, false, trove.Errorf(trove.KindConflict, "Operation %s is another command, %s.", r.ID, known.Command)
		}
		return status, false, nil
	}
	e := &entry{Seq: next, Command: r.Command, RequestID: r.RequestID, Status: guestapi.OperationStatus{
		ID: r.ID, State: guestapi.StateRunning, Sentence: "the guest begins",
	}}
	// The arguments first: an entry without them would be a command that cannot be run.
	if takesArgs(r.Command) {
		if err := atomicfile.Write(j.argsPath(r.ID), r.Args, 0o600); err != nil {
			return status, false, fmt.Errorf("record operation %s: %w", r.ID, err)
		}
	}
	if err := j.write(e); errors.Is(err, unix.ENOSPC) {
		return status, false, trove.Wrap(trove.KindUnavailable, err, "The command cannot be recorded: the data volume is full.")
	} else if err != nil {
		return status, false, err
	}
	j.mu.Lock()
	j.entries[r.ID], j.last = e, next
	j.mu.Unlock()
	return e.Status, true, nil
}

// Args returns the arguments of a running command.
func (j *Journal) Args(id string) (json.RawMessage, error) {
	data, err := os.ReadFile(j.argsPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the arguments of operation %s: %w", id, err)
	}
	return data, nil
}

// Progress notes in memory how far a command is and returns the whole status.
func (j *Journal) Progress(id, sentence string, percent int) guestapi.OperationStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.entries[id]
	if !ok || e.Status.State != guestapi.StateRunning {
		return guestapi.OperationStatus{ID: id, State: guestapi.StateUnknown}
	}
	e.Status.Sentence, e.Status.Percent = sentence, percent
	return e.Status
}

// End records how a command ended, prunes the journal and removes the arguments. When that cannot be written (the volume is full) the end is known
// in memory all the same, and an error is returned: the next agent would run the command again.
func (j *Journal) End(status guestapi.OperationStatus) error {
	return j.change(status.ID, func(e *entry) { e.Status = status })
}

// MarkKnown records that a controller has seen the end of a command; before the end it does nothing.
func (j *Journal) MarkKnown(id string) error {
	return j.change(id, func(e *entry) { e.Known = e.Status.State != guestapi.StateRunning })
}

func (j *Journal) change(id string, f func(*entry)) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	old, ok := j.entries[id]
	if !ok {
		j.mu.Unlock()
		return fmt.Errorf("operation %s is not in the journal", id)
	}
	e := *old
	j.mu.Unlock()
	before := e.Known
	f(&e)
	if e.Known && before {
		return nil
	}
	written := j.write(&e)
	j.mu.Lock()
	j.entries[id] = &e
	j.mu.Unlock()
	if written != nil {
		return written
	}
	if e.Status.State != guestapi.StateRunning {
		if err := removeFile(j.argsPath(id)); err != nil {
			return err
		}
	}
	return j.prune()
}

// Status returns where a command stands. Known says that an ended command still waits to be marked as known.
func (j *Journal) Status(id string) (status guestapi.OperationStatus, unknownEnd bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.entries[id]
	if !ok {
		return guestapi.OperationStatus{ID: id, State: guestapi.StateUnknown}, false
	}
	return e.Status, e.Status.State != guestapi.StateRunning && !e.Known
}

// Running returns the commands that have not ended, oldest first.
func (j *Journal) Running() []guestapi.Request {
	var all []guestapi.Request
	for _, e := range j.pick(func(e *entry) bool { return e.Status.State == guestapi.StateRunning }) {
		all = append(all, guestapi.Request{V: guestapi.Version, ID: e.Status.ID, Command: e.Command, RequestID: e.RequestID})
	}
	return all
}

// UnknownEnds returns the ends that no controller has shown to know, oldest first.
func (j *Journal) UnknownEnds() []guestapi.OperationStatus {
	var all []guestapi.OperationStatus
	for _, e := range j.pick(func(e *entry) bool { return e.Status.State != guestapi.StateRunning && !e.Known }) {
		all = append(all, e.Status)
	}
	return all
}

func (j *Journal) pick(want func(*entry) bool) []*entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*entry
	for _, e := range j.entries {
		if want(e) {
			c := *e
			all = append(all, &c)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return int(a.Seq - b.Seq) })
	return all
}

// prune removes the oldest ended commands above journalKeep. The caller holds writing.
func (j *Journal) prune() error {
	ended := j.pick(func(e *entry) bool { return e.Status.State != guestapi.StateRunning })
	for _, e := range ended[:max(0, len(ended)-journalKeep)] {
		if err := removeFile(j.path(e.Status.ID)); err != nil {
			return err
		}
		j.mu.Lock()
		delete(j.entries, e.Status.ID)
		j.mu.Unlock()
	}
	return nil
}

func (j *Journal) write(e *entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("record operation %s: %w", e.Status.ID, err)
	}
	if err := atomicfile.Write(j.path(e.Status.ID), data, 0o600); err != nil {
		return fmt.Errorf("record operation %s: %w", e.Status.ID, err)
	}
	return nil
}

func (j *Journal) path(id string) string { return filepath.Join(j.dir, fileName(id)) }

func (j *Journal) argsPath(id string) string { return filepath.Join(j.secrets, fileName(id)) }

// fileName makes an id into a file name that is no path and no hidden file.
func fileName(id string) string { return "op-" + url.QueryEscape(id) + ".json" }

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a journal file: %w", err)
	}
	return nil
}
