package wire

// LogTailBody wraps a part of a log. It is not in Trove.
type LogTailBody struct {
	Tail LogTail `json:"tail"`
}

// LogTail are lines of a log. Bytes that are no text are written as \x and two digits.
type LogTail struct {
	Lines     []string `json:"lines"`
	Cursor    string   `json:"cursor"`    // where the next call goes on
	Restarted bool     `json:"restarted"` // the file was begun anew or cut: lines between may be missing
	More      bool     `json:"more"`      // there are more lines already
}

// StatementList are the statements that took the most time, the costliest first. It is not in Trove.
type StatementList struct {
	Statements []Statement `json:"statements"`
}

// Statement is what a kind of statement cost since the database counts.
type Statement struct {
	Text     string  `json:"text"`     // with placeholders in place of constants
	Database string  `json:"database"` // "" where there is none
	Calls    int64   `json:"calls"`
	Seconds  float64 `json:"total_seconds"`
	Rows     int64   `json:"rows"`
}

// ScrapeTokenBody wraps a scrape token. It is not in Trove.
type ScrapeTokenBody struct {
	ScrapeToken ScrapeToken `json:"scrape_token"`
}

// ScrapeToken lets a monitoring system read the metrics of one instance. The token itself is told once, to who makes it.
type ScrapeToken struct {
	Token   string `json:"token,omitempty"`
	URL     string `json:"url"`
	UserID  string `json:"user_id"`
	Created Time   `json:"created"`
}

// Difference is a parameter whose value in the running database is another one than it was given.
type Difference struct {
	Name   string `json:"name"`
	Wanted string `json:"wanted"`
	Actual string `json:"actual"`
}
