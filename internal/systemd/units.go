// Package systemd writes the units with which systemd runs the service, asks systemd for what follows from them, and tells it when a process is ready.
//
// Units are text made from a Spec alone: the same Spec gives the same text. A unit file that somebody else wrote is never replaced or removed.
// Functions may be repeated.
package systemd

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Dir is where units of the administrator lie.
const Dir = "/etc/systemd/system"

// Marker is the first line of every unit that this package wrote.
const Marker = "# Written by `trove service install`. Put changes into a drop-in (systemctl edit)."

// Credential is the name of the master key among the credentials that systemd hands to the service.
const Credential = "master.key"

// Spec says what the units shall run.
type Spec struct {
	Program    string // absolute path of trove
	State      string // absolute path of the state directory
	Config     string // absolute path of the configuration file; "" for the one in the state directory
	Components bool   // a unit for each component instead of one for all
	MasterKey  string // absolute path of the master key's file, for LoadCredential=; "" if it lies in the state directory
	Mounts     []string
	Writes     []string // further directories that the taskmanager writes to; they need not be there

	OpenStack bool // instances are servers of an OpenStack: nothing is made on this machine
	Interface bool // the interface of the management network is made before, by trove openstack interface
}

// Unit is a unit file.
type Unit struct {
	Name string
	Text string
}

// Names are the units of all kinds that Units may make, those that systemd starts by themselves first.
var Names = []string{"trove.service", "trove.target", "trove-taskmanager.service", "trove-api.service", "trove-conductor.service", InterfaceUnit}

// InterfaceUnit makes the interface of the management network.
const InterfaceUnit = "trove-interface.service"

// Units returns the unit files, the one to enable first.
func Units(s Spec) []Unit {
	confinement, broker := host, "Trove: operations, message bus and the cloud of this machine"
	if s.OpenStack {
		confinement, broker = s.shut(s.Writes...), "Trove: operations and message bus"
	}
	var first []Unit
	if s.Interface {
		first = []Unit{{InterfaceUnit, s.makesInterface()}}
	}
	if !s.Components {
		return append([]Unit{{"trove.service", s.service("Trove, databases as a service", "api taskmanager conductor", "multi-user.target", "", confinement)}}, first...)
	}
	target := Marker + `
[Unit]
Description=Trove, databases as a service
Documentation=man:systemd.target(5)

[Install]
WantedBy=multi-user.target
`
	return append([]Unit{
		{"trove.target", target},
		{"trove-taskmanager.service", s.service(broker, "taskmanager", "trove.target", "trove.target", confinement)},
		{"trove-api.service", s.service("Trove: REST API", "api", "trove.target", "trove.target", s.shut())},
		{"trove-conductor.service", s.service("Trove: what databases report", "conductor", "trove.target", "trove.target", s.shut())},
	}, first...)
}

// makesInterface is the unit that makes the interface of the management network again after a restart of the machine. It needs no OpenStack.
func (s Spec) makesInterface() string {
	return Marker + fmt.Sprintf(`
[Unit]
Description=Trove: interface of the management network
# The switch, or the agent, that it is connected by. Those that this machine does not have are passed over.
After=network.target openvswitch-switch.service ovn-host.service neutron-openvswitch-agent.service neutron-linuxbridge-agent.service
Before=trove.service trove-taskmanager.service
RequiresMountsFor=%[2]s

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=%[1]s openstack interface --state %[2]s
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_DAC_OVERRIDE
ProtectSystem=strict
PrivateTmp=yes
ProtectHome=read-only

[Install]
WantedBy=multi-user.target
`, word(s.Program), word(s.State))
}

// host is how the process is confined that makes sandboxes.
const host = `
# It makes namespaces, mounts, loop devices, control groups and packet filters for the sandboxes. So there is nothing here that would give it a mount
# namespace of its own (ProtectSystem=, PrivateTmp=, ProtectHome=, PrivateDevices=, ReadWritePaths=, ...): mounts made in there are seen by nobody
# else, and the next start would not find them. Nor is there a device policy or a filter of system calls that the sandboxes would inherit beside
# their own. What it never needs is taken away.
NoNewPrivileges=yes
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_SYS_PACCT CAP_SYSLOG CAP_WAKE_ALARM CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_SYS_TTY_CONFIG CAP_LEASE CAP_BLOCK_SUSPEND
# Sandboxes may open as many files as this process.
LimitNOFILE=1048576
LimitCORE=0
`

// shut is how a process is confined that only reads and writes the state directory, and more, and speaks with the network.
func (s Spec) shut(more ...string) string {
	paths := []string{s.State}
	for _, path := range more {
		paths = append(paths, "-"+path)
	}
	return fmt.Sprintf(`
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths=%s
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
LimitCORE=0
`, strings.Join(words(paths), " "))
}

// after are the units that come first.
func (s Spec) after() []string {
	all := []string{"network.target", "nftables.service", "firewalld.service"}
	if s.OpenStack {
		all[0] = "network-online.target" // the broker listens on an address of the management network
	}
	if s.Interface {
		all = append(all, InterfaceUnit)
	}
	return all
}

// service makes a service unit. PartOf may be "".
func (s Spec) service(description, components, wantedBy, partOf, confinement string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(Marker)
	line("[Unit]")
	line("Description=%s", description)
	line("# A firewall that starts later would take the packet filters away.")
	line("After=%s", strings.Join(s.after(), " "))
	if s.OpenStack {
		line("Wants=network-online.target")
	}
	if s.Interface {
		line("Wants=%s", InterfaceUnit)
	}
	line("RequiresMountsFor=%s", strings.Join(words(append([]string{s.State}, s.Mounts...)), " "))
	if partOf != "" {
		line("PartOf=%s", partOf)
	}
	line("# It is tried again for as long as it takes.")
	line("StartLimitIntervalSec=0")
	line("")
	line("[Service]")
	line("Type=notify")
	exec := []string{s.Program, "serve"}
	exec = append(exec, strings.Fields(components)...)
	exec = append(exec, "--state", s.State)
	if s.Config != "" {
		exec = append(exec, "--config", s.Config)
	}
	line("ExecStart=%s", strings.Join(words(exec), " "))
	if !s.OpenStack {
		line("# Databases go on when the service ends. Their processes are in control groups of their own (/trove-<hash> from the root), which this unit's start and")
		line("# stop do not touch; what the service has just begun to start is left alone as well.")
		line("KillMode=process")
	}
	line("Restart=on-failure")
	line("RestartSec=2")
	line("TimeoutStartSec=180")
	line("TimeoutStopSec=60")
	if s.MasterKey != "" {
		line("LoadCredential=%s:%s", Credential, word(s.MasterKey))
	}
	b.WriteString(confinement)
	line("")
	line("[Install]")
	line("WantedBy=%s", wantedBy)
	return b.String()
}

func words(all []string) []string {
	out := make([]string, 0, len(all))
	for _, a := range all {
		out = append(out, word(a))
	}
	return out
}

// word writes one argument as systemd reads it.
func word(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(s)
	if strings.ContainsAny(s, " \t'\\\"") {
		return `"` + s + `"`
	}
	return s
}

// path returns where a unit lies; root is "" for this machine.
func path(root, unit string) string { return filepath.Join("/", root, Dir, unit) }
