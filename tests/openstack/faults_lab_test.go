package openstack_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// setting is one of the settings with which the lab was brought up.
func setting(name string) string {
	data, err := os.ReadFile(filepath.Join(state, "settings"))
	if err != nil {
		return ""
	}
	_, value, found := strings.Cut(string(data), name+":=")
	if !found {
		return ""
	}
	value, _, _ = strings.Cut(value, "}")
	return value
}

// wordsForServers reports whether servers are nothing but words: Nova's fake hypervisor.
func wordsForServers() bool { return setting("LAB_VIRT") == "fake" }

// withoutOthers leaves out what a lab in a network namespace of its own sees of the machine: the guests and networks of another lab.
func withoutOthers(all openstack.Inventory) openstack.Inventory {
	if setting("LAB_NETNS") == "" {
		return all
	}
	return slices.DeleteFunc(all, func(line string) bool {
		return strings.HasPrefix(line, "network namespace ") || strings.HasPrefix(line, "libvirt domain ")
	})
}
