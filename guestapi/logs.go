package guestapi

import (
	"context"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// The short commands for logs, which came after the first release.
const (
	CmdLogs       Command = "logs"        // → []LogState
	CmdSetLog     Command = "set-log"     // SetLogArgs
	CmdPublishLog Command = "publish-log" // PublishLogArgs → LogPublished
)

// publishTimeout is how long a guest may take to publish. It says itself how far it came in that time.
const publishTimeout = 24 * time.Second

// LogState is a log as the guest has it.
type LogState struct {
	Name    string `json:"name"`
	System  bool   `json:"system,omitempty"` // always on
	Enabled bool   `json:"enabled"`
	File    string `json:"file"`
	Size    int64  `json:"size"`             // bytes that there are
	Header  string `json:"header,omitempty"` // SHA-256 of the first line; "" while there is none. Another one: the file was begun anew
}

// SetLogArgs switches a log.
type SetLogArgs struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
}

// PublishLogArgs says what was published before, and where the rest goes. The grant is to write.
type PublishLogArgs struct {
	Name   string `json:"name"`
	From   int64  `json:"from"`             // position up to which the log was published
	Header string `json:"header,omitempty"` // of the file that it was published from
	Grant  Grant  `json:"grant"`
}

// LogPublished is what a guest has published: whole lines, as far as the grant and the time went.
type LogPublished struct {
	Restarted bool         `json:"restarted,omitempty"` // the file was begun anew since: it was published from its start
	From      int64        `json:"from"`
	To        int64        `json:"to"`
	Header    string       `json:"header"`
	Segments  []LogSegment `json:"segments"`
}

// LogSegment is one object.
type LogSegment struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Lines  int64  `json:"lines"`
	SHA256 string `json:"sha256"`
}

// Limits on what a guest may say of its logs.
const (
	maxLogs     = 32
	maxSegments = 256
)

// Logs returns the logs of the engine.
func (c *Client) Logs(ctx context.Context, instance string) ([]LogState, error) {
	var all []LogState
	if err := c.short(ctx, instance, CmdLogs, nil, &all); err != nil {
		return nil, err
	}
	if len(all) > maxLogs {
		return nil, trove.Errorf(trove.KindInternal, "The guest reported %d logs.", len(all))
	}
	for _, l := range all {
		if !name(l.Name) || CheckObjectName(l.Name) != nil || strings.Contains(l.Name, "/") || l.Size < 0 || !printable(l.Header) || !printable(l.File) {
			return nil, trove.Errorf(trove.KindInternal, "The guest reported a log that is none.")
		}
	}
	return all, nil
}

// SetLog switches a log on or off; NotFound if there is none of the name, BadRequest if it cannot be switched.
func (c *Client) SetLog(ctx context.Context, instance, log string, on bool) error {
	return c.short(ctx, instance, CmdSetLog, SetLogArgs{Name: log, On: on}, nil)
}

// PublishLog lets the guest write what is new in a log to the object gateway. What the guest says that it has written is to be looked at there.
func (c *Client) PublishLog(ctx context.Context, instance string, args PublishLogArgs) (LogPublished, error) {
	var done LogPublished
	if err := c.call(ctx, publishTimeout, instance, trove.NewID(), CmdPublishLog, args, &done); err != nil {
		return LogPublished{}, err
	}
	bad := done.From < 0 || done.To < done.From || !printable(done.Header) || len(done.Segments) > maxSegments
	for _, s := range done.Segments {
		bad = bad || s.Size < 0 || s.Lines < 0 || CheckObjectName(s.Name) != nil || !printable(s.SHA256)
	}
	if bad {
		return LogPublished{}, trove.Errorf(trove.KindInternal, "The guest reported a publication that is none.")
	}
	return done, nil
}

// printable says whether a text of a guest is short and has nothing that a terminal would act on.
func printable(text string) bool {
	return len(text) <= 256 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}
