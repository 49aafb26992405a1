package openstack_test

import (
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// wordsForServers reports whether servers are nothing but words: Nova's fake hypervisor.
func wordsForServers() bool { return openstack.Setting(state, "LAB_VIRT") == "fake" }

// withoutOthers leaves out what a lab in a network namespace of its own sees of the machine: the guests and networks of another lab.
func withoutOthers(all openstack.Inventory) openstack.Inventory {
	if openstack.Setting(state, "LAB_NETNS") == "" {
		return all
	}
	return slices.DeleteFunc(all, func(line string) bool {
		return strings.HasPrefix(line, "network namespace ") || strings.HasPrefix(line, "libvirt domain ")
	})
}
