package openstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Inventory is what is there, a line each: what, id, name.
type Inventory []string

// lists are those that an administrator gets for all projects at once.
var lists = []struct{ what, service, path, key string }{
	{"server", "compute", "/servers/detail?all_tenants=1", "servers"},
	{"server group", "compute", "/os-server-groups?all_projects=1", "server_groups"},
	{"flavor", "compute", "/flavors?is_public=None", "flavors"},
	{"volume", "block-storage", "/volumes/detail?all_tenants=1", "volumes"},
	{"snapshot", "block-storage", "/snapshots/detail?all_tenants=1", "snapshots"},
	{"volume backup", "block-storage", "/backups/detail?all_tenants=1", "backups"},
	{"volume attachment", "block-storage", "/attachments?all_tenants=1", "attachments"},
	{"volume type", "block-storage", "/types", "volume_types"},
	{"network", "network", "/v2.0/networks", "networks"},
	{"subnet", "network", "/v2.0/subnets", "subnets"},
	{"router", "network", "/v2.0/routers", "routers"},
	{"port", "network", "/v2.0/ports", "ports"},
	{"security group", "network", "/v2.0/security-groups", "security_groups"},
	{"security group rule", "network", "/v2.0/security-group-rules", "security_group_rules"},
	{"floating IP", "network", "/v2.0/floatingips", "floatingips"},
	{"image", "image", "/v2/images?limit=1000", "images"},
	{"user", "identity", "/users", "users"},
	{"project", "identity", "/projects", "projects"},
	{"role", "identity", "/roles", "roles"},
	{"service", "identity", "/services", "services"},
	{"endpoint", "identity", "/endpoints", "endpoints"},
	{"credential", "identity", "/credentials", "credentials"},
}

// Take returns the inventory of all services, and of what stands behind them on this machine.
func (c *Cloud) Take(ctx context.Context) (Inventory, error) {
	var inv Inventory
	for _, l := range lists {
		var answer map[string]any
		if err := c.get(ctx, "admin", l.service, l.path, &answer); err != nil {
			return nil, fmt.Errorf("list of each %s: %w", l.what, err)
		}
		entries, ok := answer[l.key].([]any)
		if !ok {
			return nil, fmt.Errorf("list of each %s: the answer has no %q", l.what, l.key)
		}
		for _, e := range entries {
			entry, _ := e.(map[string]any)
			inv = append(inv, strings.TrimSpace(fmt.Sprintf("%s %v %v", l.what, entry["id"], text(entry["name"])+of(entry))))
		}
	}
	for _, more := range []func(context.Context) ([]string, error){c.allocations, c.objects, c.secrets, c.behind} {
		lines, err := more(ctx)
		if err != nil {
			return nil, err
		}
		inv = append(inv, lines...)
	}
	slices.Sort(inv)
	return slices.Compact(inv), nil
}

// owners are the things that others without a name are part of, by the key of their id.
var owners = map[string]string{"volume_id": "volume", "security_group_id": "security group", "port_id": "port"}

// of says whose a thing without a name is.
func of(entry map[string]any) string {
	for key, what := range owners {
		if id := text(entry[key]); id != "" && text(entry["name"]) == "" {
			return "of " + what + " " + id
		}
	}
	return ""
}

func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return ""
}

// allocations are what Placement holds for servers.
func (c *Cloud) allocations(ctx context.Context) ([]string, error) {
	var providers struct {
		List []struct{ UUID string } `json:"resource_providers"`
	}
	if err := c.get(ctx, "admin", "placement", "/resource_providers", &providers); err != nil {
		return nil, err
	}
	var lines []string
	for _, p := range providers.List {
		var answer struct{ Allocations map[string]any }
		if err := c.get(ctx, "admin", "placement", "/resource_providers/"+p.UUID+"/allocations", &answer); err != nil {
			return nil, err
		}
		for consumer := range answer.Allocations {
			lines = append(lines, "allocation "+consumer)
		}
	}
	return lines, nil
}

// objects are Swift's containers and what is in them.
func (c *Cloud) objects(ctx context.Context) ([]string, error) {
	var lines []string
	for _, project := range Projects {
		var containers []struct{ Name string }
		if err := c.get(ctx, project, "object-store", "?format=json", &containers); err != nil {
			return nil, err
		}
		for _, container := range containers {
			lines = append(lines, "container "+project+"/"+container.Name)
			var objects []struct{ Name string }
			err := c.get(ctx, project, "object-store", "/"+container.Name+"?format=json", &objects)
			if err != nil && !errors.Is(err, errNotThere) { // somebody else may have taken it away just now
				return nil, err
			}
			for _, o := range objects {
				lines = append(lines, "object "+project+"/"+container.Name+"/"+o.Name)
			}
		}
	}
	return lines, nil
}

// secrets are Barbican's.
func (c *Cloud) secrets(ctx context.Context) ([]string, error) {
	var lines []string
	for _, project := range Projects {
		for _, kind := range []string{"secrets", "containers", "orders"} {
			answer := map[string]any{}
			if err := c.get(ctx, project, "key-manager", "/v1/"+kind+"?limit=100", &answer); err != nil {
				return nil, err
			}
			entries, _ := answer[kind].([]any)
			for _, e := range entries {
				entry, _ := e.(map[string]any)
				lines = append(lines, fmt.Sprintf("Barbican's %s of %s %v", kind, project, entry[strings.TrimSuffix(kind, "s")+"_ref"]))
			}
		}
	}
	return lines, nil
}

// behind is what the services keep on this machine: a row that is gone while the thing is still there would be seen by nobody else.
func (c *Cloud) behind(ctx context.Context) ([]string, error) {
	var lines []string
	type command struct{ what, line string }
	commands := []command{
		{"RBD image", "rbd ls volumes"},
		{"RBD image in the trash", "rbd trash ls volumes"},
		{"tap", "ls /sys/class/net | grep '^tap' || true"},
		{"network namespace", "ls /run/netns 2>/dev/null || true"},
	}
	if Setting(c.State, "LAB_VIRT") != "fake" { // else there may be no libvirt
		commands = append(commands, command{"libvirt domain", "virsh -c qemu:///system list --all --uuid --name"})
	}
	for _, command := range commands {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command.line)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CEPH_CONF=" + filepath.Join(c.State, "etc/ceph/ceph.conf")}
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command.line, err)
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, command.what+" "+line)
			}
		}
	}
	for what, pattern := range map[string]string{
		"directory of Nova": "nova/instances/*-*-*-*-*", "file of Glance": "glance/images/*", "DHCP host": "neutron/dhcp/*/host",
	} {
		files, err := filepath.Glob(filepath.Join(c.State, pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if what != "DHCP host" {
				lines = append(lines, what+" "+f)
				continue
			}
			data, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(data)) {
				lines = append(lines, what+" "+strings.TrimSpace(line))
			}
		}
	}
	return lines, nil
}

// Difference returns what came, with a +, and what went, with a -.
func Difference(before, after Inventory) []string {
	var lines []string
	for _, line := range after {
		if _, found := slices.BinarySearch(before, line); !found {
			lines = append(lines, "+ "+line)
		}
	}
	for _, line := range before {
		if _, found := slices.BinarySearch(after, line); !found {
			lines = append(lines, "- "+line)
		}
	}
	return lines
}

// Settled waits until the inventory is as it was, and returns what differs when the limit is over: agents take away interfaces and leases a moment
// after the API has forgotten them.
func (c *Cloud) Settled(ctx context.Context, before Inventory, limit time.Duration) ([]string, error) {
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Second) {
		after, err := c.Take(ctx) // a service may fail at a thing that goes while it lists it
		if err != nil && time.Now().After(end) {
			return nil, err
		}
		if difference := Difference(before, after); err == nil && (len(difference) == 0 || time.Now().After(end)) {
			return difference, nil
		}
	}
}

// Setting is one of the settings with which a lab was brought up, "" without it.
func Setting(state, name string) string {
	data, err := os.ReadFile(filepath.Join(state, "settings"))
	if err != nil {
		return ""
	}
	_, value, _ := strings.Cut(string(data), name+":=")
	value, _, _ = strings.Cut(value, "}")
	return value
}
