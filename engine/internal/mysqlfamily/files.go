package mysqlfamily

import "github.com/trove-dbaas/trove/engine/internal/guestfiles"

// WriteFile replaces a file in the tmpfs that the engine's account may read and nobody else.
func (p Place) WriteFile(path string, data []byte) error {
	return guestfiles.Write(path, data, 0o400, p.UID, p.GID)
}
