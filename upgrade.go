package trove

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// UpgradeInput is the change of datastore version; both are ids.
type UpgradeInput struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// RollbackInput is how an instance was found by its way back.
type RollbackInput struct {
	Failed bool `json:"failed"` // an upgrade, or a way back, had failed and left the database down
}

// KeptData says that the data of an instance as it was before its last upgrade still lies on its volume, beside the data that is in use.
type KeptData struct {
	InstanceID         string
	DatastoreVersionID string // that wrote it
	ImageID            string // of the machine that it was used with
	Since              time.Time
	Bytes              int64 // that it had when it was kept
}

// Only reports whether the data is the only whole data of its instance. After an upgrade that is done it is another version's than the instance; an upgrade that
// failed and could not put it back leaves the instance with the version that it is of.
func (k *KeptData) Only(i *Instance) bool { return k.DatastoreVersionID == i.DatastoreVersionID }

// CompareVersions compares version numbers such as "10.11" and "10.6.12" part by part, as -1, 0 or 1. What one of them does not say is equal: "10.11"
// and "10.11.14" are. Parts that are no numbers compare as texts.
func CompareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for n := range min(len(as), len(bs)) {
		x, errX := strconv.Atoi(as[n])
		y, errY := strconv.Atoi(bs[n])
		switch {
		case errX == nil && errY == nil && x != y:
			return sign(x < y)
		case (errX != nil || errY != nil) && as[n] != bs[n]:
			return sign(as[n] < bs[n])
		}
	}
	return 0
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

// UnfitOverride returns why overrides of one version, by parameter, cannot be had under the rules of another, nil if all can.
func UnfitOverride(rules []Parameter, overrides map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		p, known := FindParameter(rules, name)
		if !known {
			return Errorf(KindUnprocessable, "The parameter %s does not exist there.", name)
		}
		if err := p.Check(overrides[name]); err != nil {
			return err
		}
	}
	return nil
}
