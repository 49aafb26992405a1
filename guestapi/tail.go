package guestapi

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// CmdTailLog is a short command that came after the first release.
const CmdTailLog Command = "tail-log" // TailLogArgs → LogTail

// MaxTail is how much of a log one answer may have, in bytes; as base64 in an envelope it is well below MaxMessage.
const MaxTail = 96 << 10

// TailLogArgs say from where on a log is wanted. Without a position it is the end of it: so many whole lines.
type TailLogArgs struct {
	Name  string `json:"name"`
	Lines int    `json:"lines,omitempty"`
	// From and File are the position that an earlier answer ended at.
	From int64  `json:"from,omitempty"`
	File string `json:"file,omitempty"`
}

// LogTail are whole lines of a log, as they are in the file; a line longer than MaxTail comes in pieces. There is no data while nothing is new.
type LogTail struct {
	File      string `json:"file,omitempty"` // names the file: another one, or one that was cut, has another name; "" while there is none
	To        int64  `json:"to"`             // position of the end of the data
	Data      []byte `json:"data,omitempty"`
	Restarted bool   `json:"restarted,omitempty"` // the file is another one than before: what was written between may be missing
	More      bool   `json:"more,omitempty"`      // there are whole lines after these
}

// TailLog returns the next lines of a log.
func (c *Client) TailLog(ctx context.Context, instance string, args TailLogArgs) (LogTail, error) {
	var t LogTail
	if err := c.short(ctx, instance, CmdTailLog, args, &t); err != nil {
		return LogTail{}, err
	}
	if t.To < 0 || int64(len(t.Data)) > t.To || len(t.Data) > MaxTail || !printable(t.File) {
		return LogTail{}, trove.Errorf(trove.KindInternal, "The guest reported a part of a log that is none.")
	}
	return t, nil
}
