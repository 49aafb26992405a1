package wire

// HostList is the answer to GET /mgmt/host-status.
type HostList struct {
	Hosts []Host `json:"hosts"`
}

// Host is how full a machine is that instances run on; memory and space are in bytes.
type Host struct {
	Name      string        `json:"name"`
	Memory    Amount        `json:"memory"`
	Cores     Amount        `json:"cores"`
	Volumes   Amount        `json:"volumes"`
	Addresses Amount        `json:"addresses"`
	Pool      HostPool      `json:"pool"`
	Running   int           `json:"instances_running"`
	Stopped   int           `json:"instances_stopped"`
	Down      int           `json:"instances_down"`
	Loops     int           `json:"loop_devices"`
	Warnings  []HostWarning `json:"warnings"`
}

// Amount is how much there is of something.
type Amount struct {
	Total    int64 `json:"total"`
	Promised int64 `json:"promised"`
	Used     int64 `json:"used"`
	Left     int64 `json:"left"`
}

// HostPool is what else is to be known of the space for volumes.
type HostPool struct {
	Overcommit float64 `json:"overcommit"`
	Reserved   bool    `json:"reserved"`
	Pending    int64   `json:"pending"`
	Free       int64   `json:"file_system_free"`
	StopMark   int64   `json:"stop_mark"`
}

// HostWarning says in a sentence that something comes to its end.
type HostWarning struct {
	Of       string `json:"of"`
	Sentence string `json:"sentence"`
}
