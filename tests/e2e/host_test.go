package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHostStatusAndDrift: an administrator sees what the machine has; limits that somebody changed by hand are put right, and the instance's timeline says so.
func TestHostStatusAndDrift(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("host-1")
	if _, err := d.try("host", "status"); err == nil {
		t.Error("a tenant sees how full the machine is")
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(d.admin().trove("host", "status", "-f", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	seen := map[any]map[string]any{}
	for _, r := range rows {
		seen[r["what"]] = r
	}
	volumes, machines := seen["volumes"], seen["instances"]
	if len(rows) != 5 || volumes == nil || machines == nil || volumes["promised"] == 0.0 || machines["used"] == 0.0 {
		t.Errorf("host status: %v", rows)
	}
	file := filepath.Join("/sys/fs/cgroup/pids/trove-"+d.hash(), i.ID, "pids.max")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		file = filepath.Join("/sys/fs/cgroup/trove-"+d.hash(), i.ID, "pids.max")
	}
	if err := os.WriteFile(file, []byte("max"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the limit to be put right", func() bool {
		data, err := os.ReadFile(file)
		return err == nil && strings.TrimSpace(string(data)) == "4096"
	})
	eventually(t, patience, "the timeline to say so", func() bool {
		out, err := d.try("instance", "events", i.ID)
		return err == nil && strings.Contains(out, "The limits of the instance were not in force")
	})
}
