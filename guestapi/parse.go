package guestapi

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
)

// Limits on what a guest may say. A guest is a tenant's machine: identifiers outside the limits are refused, texts for people are
// cut and cleaned, because a crashed engine's last words may contain anything.
const (
	maxReport   = 64 << 10 // bytes of a whole report
	maxName     = 64       // bytes of a boot id, version, engine or command
	maxOpID     = 128      // bytes of an operation id
	maxCommands = 128      // commands in a hello
	maxText     = 4096     // bytes of a text for people
	maxResult   = 32 << 10 // bytes of a long command's result
)

// ParseReportSubject splits the subject of a report. The instance comes from here and never from a payload: the broker guards
// subjects only. Not ok: the subject is none of ReportSubject's.
func ParseReportSubject(subject string) (instance string, kind ReportKind, ok bool) {
	rest, found := strings.CutPrefix(subject, subjectPrefix)
	if !found {
		return "", "", false
	}
	instance, last, found := strings.Cut(rest, ".up.")
	if !found || !trove.ValidID(instance) || last == "" || strings.Contains(last, ".") {
		return "", "", false
	}
	return instance, ReportKind(last), true
}

// ParseHello reads a hello report. An error is of KindBadRequest: the guest sent what no agent sends.
func ParseHello(data []byte) (Hello, error) {
	var h Hello
	if err := decodeReport("hello", data, &h); err != nil {
		return Hello{}, err
	}
	return checkHello(h)
}

func checkHello(h Hello) (Hello, error) {
	switch {
	case !name(h.BootID):
		return Hello{}, invalid("hello", "boot_id")
	case !name(h.AgentVersion):
		return Hello{}, invalid("hello", "agent_version")
	case !name(h.Engine):
		return Hello{}, invalid("hello", "engine")
	case h.Protocol < 1:
		return Hello{}, invalid("hello", "protocol")
	case h.AgentStart < 0:
		return Hello{}, invalid("hello", "agent_start")
	case h.TakenBack != "" && !name(h.TakenBack):
		return Hello{}, invalid("hello", "taken_back")
	case len(h.Commands) > maxCommands:
		return Hello{}, invalid("hello", "commands")
	}
	for _, c := range h.Commands {
		if !name(string(c)) {
			return Hello{}, invalid("hello", "commands")
		}
	}
	return h, nil
}

// ParseHeartbeat reads a heartbeat. An error is of KindBadRequest.
func ParseHeartbeat(data []byte) (Heartbeat, error) {
	var h Heartbeat
	if err := decodeReport("heartbeat", data, &h); err != nil {
		return Heartbeat{}, err
	}
	switch {
	case !name(h.BootID):
		return Heartbeat{}, invalid("heartbeat", "boot_id")
	case !name(h.AgentVersion):
		return Heartbeat{}, invalid("heartbeat", "agent_version")
	case h.Seq < 0:
		return Heartbeat{}, invalid("heartbeat", "seq")
	case !h.Service.Valid():
		return Heartbeat{}, invalid("heartbeat", "service")
	case h.TakenBack != "" && !name(h.TakenBack):
		return Heartbeat{}, invalid("heartbeat", "taken_back")
	case h.EngineStart < 0:
		return Heartbeat{}, invalid("heartbeat", "engine_start")
	case h.EventAt < 0:
		return Heartbeat{}, invalid("heartbeat", "event_at")
	case h.AgentStart < 0:
		return Heartbeat{}, invalid("heartbeat", "agent_start")
	case h.VolumeUsed < 0:
		return Heartbeat{}, invalid("heartbeat", "volume_used")
	case h.VolumeTotal < 0:
		return Heartbeat{}, invalid("heartbeat", "volume_total")
	}
	if !slices.Contains(GuestEvents, h.EventKind) {
		h.EventKind = "" // a newer agent's: its sentence tells
	}
	h.Event = CleanText(h.Event)
	return h, nil
}

// ParseOperationStatus reads a progress or end report. An error is of KindBadRequest.
func ParseOperationStatus(data []byte) (OperationStatus, error) {
	var s OperationStatus
	if err := decodeReport("operation status", data, &s); err != nil {
		return OperationStatus{}, err
	}
	return checkStatus(s)
}

func checkStatus(s OperationStatus) (OperationStatus, error) {
	const what = "operation status"
	switch {
	case !ValidOperationID(s.ID):
		return OperationStatus{}, invalid(what, "id")
	case s.State != StateRunning && s.State != StateDone && s.State != StateFailed:
		return OperationStatus{}, invalid(what, "state")
	case s.Percent < 0 || s.Percent > 100:
		return OperationStatus{}, invalid(what, "percent")
	case len(s.Result) > maxResult || !utf8.Valid(s.Result): // what is no text the store would refuse, and with it what other guests say
		return OperationStatus{}, invalid(what, "result")
	}
	s.Sentence = CleanText(s.Sentence)
	switch {
	case s.State != StateFailed:
		s.Error = nil
	case s.Error == nil:
		s.Error = &Failure{Kind: trove.KindInternal, Message: "The guest gave no reason."}
	default:
		f := s.Error.clean()
		s.Error = &f
	}
	return s, nil
}

// ValidOperationID reports whether the id can be one of a command: visible ASCII, 1 to 128 characters.
func ValidOperationID(id string) bool { return visible(id, maxOpID) }

// CleanText makes a text for people out of anything: valid UTF-8 without control characters other than line ends and tabs, cut at 4096 bytes.
// Agents call it before they send, conductors before they believe.
func CleanText(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// NewFailure makes what a guest sends of an error. The text of an error without a kind is sent too: it goes to the operator's log, and
// to users only where the caller decides so.
func NewFailure(err error) *Failure {
	f := Failure{Kind: trove.KindOf(err), Message: trove.MessageOf(err)}
	if f.Kind == trove.KindInternal {
		f.Message = err.Error()
	}
	f = f.clean()
	return &f
}

// Err returns the failure as an error of its kind.
func (f Failure) Err() error {
	f = f.clean()
	return &trove.Error{Kind: f.Kind, Message: f.Message, Op: "guest"}
}

// clean keeps the kinds that an engine can have a reason for. A guest must not be able to make the API say that the user's token is
// invalid.
func (f Failure) clean() Failure {
	switch f.Kind {
	case trove.KindBadRequest, trove.KindNotFound, trove.KindConflict, trove.KindOverLimit, trove.KindUnprocessable,
		trove.KindNotImplemented, trove.KindUnavailable:
	default:
		f.Kind = trove.KindInternal
	}
	f.Message = CleanText(f.Message)
	if f.Message == "" {
		f.Message = "The guest gave no reason."
	}
	return f
}

func decodeReport(what string, data []byte, v any) error {
	if len(data) > maxReport {
		return trove.Errorf(trove.KindBadRequest, "A %s of %d bytes is longer than %d.", what, len(data), maxReport)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "A %s cannot be read.", what)
	}
	return nil
}

func invalid(what, field string) error {
	return trove.Errorf(trove.KindBadRequest, "A %s has a value in %q that is not allowed.", what, field)
}

func name(s string) bool { return visible(s, maxName) }

func visible(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
