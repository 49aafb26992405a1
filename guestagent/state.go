package guestagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// intent is what the agent must remember of the engine across its own crashes and the machine's: whether it shall run.
type intent struct {
	// Prepared says that prepare came to its end once: from then on the engine is brought up without being told.
	Prepared bool `json:"prepared"`
	// Stopped says that a stop command ended it on purpose.
	Stopped bool `json:"stopped,omitempty"`
	// PreparedBy is the prepare command whose settings the engine was started with, while that command is not at its end.
	PreparedBy string `json:"prepared_by,omitempty"`
}

const intentFile = "engine.json"

func readIntent(state string) (intent, error) {
	var i intent
	data, err := os.ReadFile(filepath.Join(state, intentFile))
	if errors.Is(err, os.ErrNotExist) {
		return i, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &i)
	}
	if err != nil {
		return i, fmt.Errorf("read what the engine shall do: %w", err)
	}
	return i, nil
}

func (i intent) write(state string) error {
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("write what the engine shall do: %w", err)
	}
	return atomicfile.Write(filepath.Join(state, intentFile), data, 0o600)
}
