package sqlstore

import (
	"fmt"
	"runtime/debug"
)

// wantedLibc is what modernc.org/sqlite's own go.mod asks for. SQLite is translated C that was made against exactly that version;
// with another one it breaks in ways that no test finds. A test compares this with the driver's go.mod.
const wantedLibc = "v1.79.0"

// checkDriver refuses to start with a libc that the driver was not made for. Binaries without module data (tests) are not judged.
func checkDriver() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Path == "modernc.org/libc" && m.Version != wantedLibc {
			return fmt.Errorf("this program was built with modernc.org/libc %s; its SQLite needs %s", m.Version, wantedLibc)
		}
	}
	return nil
}
