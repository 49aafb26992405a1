package guestfiles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
)

// WriteStarted notes the overrides that a server is started with. The file is in the tmpfs, which ends with the boot, as the server does.
func WriteStarted(path string, overrides map[string]json.RawMessage) error {
	if overrides == nil {
		overrides = map[string]json.RawMessage{}
	}
	data, err := json.Marshal(overrides)
	if err != nil {
		return fmt.Errorf("note what the server was started with: %w", err)
	}
	return Write(path, data, 0o600, os.Geteuid(), os.Getegid())
}

// ReadStarted returns them; a copy of otherwise if there is no such note.
func ReadStarted(path string, otherwise map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return maps.Clone(otherwise), nil
	}
	var started map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &started)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the server was started with: %w", err)
	}
	return started, nil
}
