package wire

// Log is a log of an instance. Container, Prefix and Metafile say where the published part is; the first two are "None" while nothing is.
type Log struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // SYS or USER
	Status    string `json:"status"`
	Published int64  `json:"published"` // bytes
	Pending   int64  `json:"pending"`   // bytes that are there and not published
	Container string `json:"container"`
	Prefix    string `json:"prefix"`
	Metafile  string `json:"metafile"`
}

// LogList is the answer to GET /instances/{id}/log.
type LogList struct {
	Logs []Log `json:"logs"`
}

// LogBody is the answer to POST /instances/{id}/log.
type LogBody struct {
	Log Log `json:"log"`
}

// LogAction is the body of POST /instances/{id}/log; of the numbers 1 asks for the action.
type LogAction struct {
	Name    string `json:"name"`
	Enable  int    `json:"enable,omitempty"`
	Disable int    `json:"disable,omitempty"`
	Publish int    `json:"publish,omitempty"`
	Discard int    `json:"discard,omitempty"`
}

// LogObject is a published part of a log.
type LogObject struct {
	Name      string `json:"name"`
	Size      int64  `json:"size"`
	Lines     int64  `json:"lines"`
	SHA256    string `json:"sha256"`
	Published Time   `json:"published"`
}

// LogObjectList is the answer to GET /instances/{id}/log/{log}/objects.
type LogObjectList struct {
	Objects []LogObject `json:"objects"`
}
