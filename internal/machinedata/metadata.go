package machinedata

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Where Nova writes on a config drive, and the label of its file system.
const (
	DriveLabel   = "config-2"
	UserDataFile = "openstack/latest/user_data"
	MetaDataFile = "openstack/latest/meta_data.json"
)

// MaxMetaData is how much of Nova's metadata a guest reads. Keys and personality files of a tenant are in it; ours are short.
const MaxMetaData = 1 << 20

// MetaData is what a guest takes from meta_data.json.
type MetaData struct {
	UUID     string // the server's id
	Hostname string // one label
}

var labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseMetaData reads Nova's metadata, of which it takes what it needs: Nova adds to it in every release. The host name loses its domain; one that is no
// host name is left out.
func ParseMetaData(data []byte) (MetaData, error) {
	var raw struct {
		UUID     string `json:"uuid"`
		Hostname string `json:"hostname"`
	}
	if len(data) > MaxMetaData {
		return MetaData{}, fmt.Errorf("read Nova's metadata: it has %d bytes, more than %d", len(data), MaxMetaData)
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return MetaData{}, errors.New("read Nova's metadata: it is no JSON of the known form")
	}
	m := MetaData{UUID: raw.UUID}
	if label, _, _ := strings.Cut(strings.ToLower(raw.Hostname), "."); labelPattern.MatchString(label) {
		m.Hostname = label
	}
	return m, nil
}
