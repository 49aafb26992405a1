package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
)

// Trace is what a deployment has of an instance on this machine.
type Trace struct {
	Instance string
	Name     string // "" if it is not written down
	Project  string
	SizeGiB  int  // of the volume; 0 if it is not written down
	Volume   bool // its image file is there
	Running  bool
}

// Traces returns what the deployment of a state directory has on this machine, by instance, without opening or changing anything. Dir is the
// directory of the cloud's own files, "" for the state directory.
func Traces(state, dir string) ([]Trace, error) {
	p, err := looking(state, dir)
	if err != nil {
		return nil, err
	}
	ids, err := p.instances()
	if err != nil {
		return nil, err
	}
	networks, err := os.ReadDir(filepath.Join(p.files, "network"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range networks {
		if _, id, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".json"), "."); ok && trove.ValidID(id) {
			ids = append(ids, id)
		}
	}
	runtime := sandbox.Runtime{Dir: p.runc()}
	var all []Trace
	for _, id := range sortedUnique(ids) {
		t := Trace{Instance: id, Volume: exists(p.image(id))}
		if m, err := readRecord[machineRecord](p.machineRecord(id)); err == nil {
			t.Name, t.Project = m.Name, m.Project
		}
		if v, err := readRecord[volumeRecord](p.volumeRecord(id)); err == nil {
			t.SizeGiB = v.SizeGiB
		}
		_, err := runtime.Find(id)
		t.Running = err == nil
		all = append(all, t)
	}
	return all, nil
}

// looking returns the places of a deployment that is not opened.
func looking(state, dir string) (paths, error) {
	state, err := filepath.Abs(state)
	if err != nil {
		return paths{}, err
	}
	if real, err := filepath.EvalSymlinks(state); err == nil {
		state = real
	}
	p := newPaths(state)
	p.files, err = realDir(dir, state)
	return p, err
}
