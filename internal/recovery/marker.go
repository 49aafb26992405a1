package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// MarkerName is the file in the state directory that says that the deployment was restored.
const MarkerName = "restored.json"

// Marker is there from the beginning of a restore until the operator says that it is finished.
type Marker struct {
	Export     string    `json:"export"` // the manifest's ID
	ExportedAt time.Time `json:"exported_at"`
	RestoredAt time.Time `json:"restored_at"`
	Whole      bool      `json:"whole"`           // false: the restore was cut off, and nothing may start
	KeptCloud  bool      `json:"kept_cloud"`      // the local cloud's own files were there, and newer than the export
	Aside      string    `json:"aside,omitempty"` // where what was there before is
	Moved      bool      `json:"moved,omitempty"` // and it is there

	// CutOff are the instances whose creates were under way at the export: they are in ERROR, and what they have made may be a database in use.
	CutOff []string `json:"cut_off,omitempty"`
}

// ReadMarker returns the marker of a state directory; false if there is none.
func ReadMarker(state string) (Marker, bool, error) {
	var m Marker
	data, err := os.ReadFile(filepath.Join(state, MarkerName))
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return m, false, fmt.Errorf("read the marker of the restore: %w", err)
	}
	return m, true, nil
}

// WriteMarker writes the marker.
func WriteMarker(state string, m Marker) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the marker of the restore: %w", err)
	}
	return atomicfile.Write(filepath.Join(state, MarkerName), append(data, '\n'), 0o600)
}

// Held reports whether the deployment was restored and nobody has said that this is finished: what is not known may be younger than the export, and
// must not be removed. What cannot be read holds, too.
func Held(state string) bool {
	_, err := os.Stat(filepath.Join(state, MarkerName))
	return !errors.Is(err, os.ErrNotExist)
}

// Startable is an Unavailable error if a restore was cut off.
func Startable(state string) error {
	m, there, err := ReadMarker(state)
	if err != nil || !there || m.Whole {
		return err
	}
	return trove.Errorf(trove.KindUnavailable,
		"The restore of %s was cut off: part of the files is missing. Run `trove manage restore` again with the same export (of %s).", state, m.ExportedAt.Format(time.RFC3339))
}

// Finish takes the marker away; done before, it does nothing.
func Finish(state string) error {
	if err := os.Remove(filepath.Join(state, MarkerName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("finish the restore: %w", err)
	}
	return nil
}
