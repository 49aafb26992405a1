package systemd_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/systemd"
)

func text(t *testing.T, units []systemd.Unit, name string) string {
	t.Helper()
	for _, u := range units {
		if u.Name == name {
			return u.Text
		}
	}
	t.Fatalf("there is no unit %s", name)
	return ""
}

func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l+"\n") {
			t.Errorf("no line %q in:\n%s", l, text)
		}
	}
}

func TestOneUnitRunsTheWholeServiceAndLeavesDatabasesAlone(t *testing.T) {
	units := systemd.Units(systemd.Spec{Program: "/usr/bin/trove", State: "/var/lib/trove", Mounts: []string{"/srv/volumes"}})
	if len(units) != 1 {
		t.Fatalf("%d units", len(units))
	}
	has(t, text(t, units, "trove.service"),
		"ExecStart=/usr/bin/trove serve api taskmanager conductor --state /var/lib/trove", "KillMode=process", "Restart=on-failure", "Type=notify",
		"RequiresMountsFor=/var/lib/trove /srv/volumes", "WantedBy=multi-user.target", "NoNewPrivileges=yes")
}

// The control plane's mounts must be those of the machine: each of these options would give it a mount namespace of its own.
func TestTheUnitThatMakesSandboxesHasTheMachinesMounts(t *testing.T) {
	for _, s := range []systemd.Spec{{Program: "/trove", State: "/s"}, {Program: "/trove", State: "/s", Components: true}} {
		name := "trove.service"
		if s.Components {
			name = "trove-taskmanager.service"
		}
		for line := range strings.Lines(text(t, systemd.Units(s), name)) {
			key, _, _ := strings.Cut(line, "=")
			for _, bad := range []string{"Protect", "Private", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "RootDirectory", "TemporaryFileSystem", "Device", "SystemCall"} {
				if strings.HasPrefix(key, bad) {
					t.Errorf("%s has %s", name, line)
				}
			}
		}
	}
}

func TestComponentsAreUnitsOfTheirOwn(t *testing.T) {
	units := systemd.Units(systemd.Spec{Program: "/usr/bin/trove", State: "/s", Config: "/etc/trove.yaml", Components: true, MasterKey: "/root/key"})
	has(t, text(t, units, "trove-api.service"), "ExecStart=/usr/bin/trove serve api --state /s --config /etc/trove.yaml", "PartOf=trove.target",
		"CapabilityBoundingSet=", "ReadWritePaths=/s", "LoadCredential=master.key:/root/key")
	has(t, text(t, units, "trove-taskmanager.service"), "WantedBy=trove.target", "LoadCredential=master.key:/root/key", "KillMode=process")
	has(t, text(t, units, "trove-conductor.service"), "LoadCredential=master.key:/root/key") // the keys of the bus are sealed under it
}

// On OpenStack nothing is made on the machine, so the taskmanager has no more rights than the others.
func TestOnOpenStackNoUnitMayMakeAnythingOnTheMachine(t *testing.T) {
	units := systemd.Units(systemd.Spec{Program: "/usr/bin/trove", State: "/s", Components: true, OpenStack: true, Interface: true})
	has(t, text(t, units, "trove-taskmanager.service"), "CapabilityBoundingSet=", "ReadWritePaths=/s", "RestrictNamespaces=yes", "Wants=trove-interface.service",
		"After=network-online.target nftables.service firewalld.service trove-interface.service")
	if strings.Contains(text(t, units, "trove-taskmanager.service"), "KillMode") {
		t.Error("there are no databases on this machine that a stop must leave alone")
	}
	has(t, text(t, units, "trove-interface.service"), "ExecStart=/usr/bin/trove openstack interface --state /s", "Type=oneshot",
		"Before=trove.service trove-taskmanager.service")
	if one := systemd.Units(systemd.Spec{Program: "/usr/bin/trove", State: "/s", OpenStack: true}); len(one) != 1 {
		t.Errorf("%d units without an interface", len(one))
	}
}

// The taskmanager writes exports: a unit that may write to the state directory alone could write none.
func TestNoExportCanBeWrittenOnOpenStack(t *testing.T) {
	for _, s := range []systemd.Spec{
		{Program: "/usr/bin/trove", State: "/s", OpenStack: true, Writes: []string{"/mnt/the safe"}},
		{Program: "/usr/bin/trove", State: "/s", OpenStack: true, Writes: []string{"/mnt/the safe"}, Components: true},
	} {
		name := "trove.service"
		if s.Components {
			name = "trove-taskmanager.service"
			has(t, text(t, systemd.Units(s), "trove-api.service"), "ReadWritePaths=/s")
		}
		has(t, text(t, systemd.Units(s), name), `ReadWritePaths=/s "-/mnt/the safe"`)
	}
}

// The program that installs is the one that units call, and it may lie in somebody's home: a unit that sees no homes cannot call it.
func TestTheInterfaceIsNotMadeByAProgramInAHome(t *testing.T) {
	units := systemd.Units(systemd.Spec{Program: "/root/trove", State: "/s", OpenStack: true, Interface: true})
	has(t, text(t, units, "trove-interface.service"), "ExecStart=/root/trove openstack interface --state /s", "ProtectHome=read-only")
}

func TestPathsWithOddCharactersAreQuoted(t *testing.T) {
	units := systemd.Units(systemd.Spec{Program: "/opt/my trove", State: "/a%b$c"})
	has(t, units[0].Text, `ExecStart="/opt/my trove" serve api taskmanager conductor --state /a%%b$$c`)
}

// TestSystemdAcceptsTheUnits lets systemd itself read them.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	for name, s := range map[string]systemd.Spec{
		"one":        {Program: "/bin/true", State: "/var/lib/trove", MasterKey: "/etc/trove/master.key"},
		"openstack":  {Program: "/bin/true", State: "/var/lib/trove", Components: true, OpenStack: true, Interface: true},
		"components": {Program: "/bin/true", State: "/var/lib/a b%c", Config: "/etc/trove.yaml", Components: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"verify", "--man=no"}
			for _, u := range systemd.Units(s) {
				file := filepath.Join(dir, u.Name)
				if err := os.WriteFile(file, []byte(u.Text), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, file)
			}
			out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
			// It complains of units of the machine, too: only lines about ours count.
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "trove") {
					t.Errorf("systemd-analyze: %s", line)
				}
			}
			if err != nil && len(out) == 0 {
				t.Error(err)
			}
		})
	}
}

func TestInstallIsIdempotentAndKeepsStrangersFiles(t *testing.T) {
	root := t.TempDir()
	units := systemd.Units(systemd.Spec{Program: "/usr/bin/trove", State: "/s", Components: true})
	for i, want := range []int{4, 0} {
		changed, err := systemd.Write(root, units)
		if err != nil || len(changed) != want {
			t.Errorf("write number %d changed %v: %v", i+1, changed, err)
		}
	}
	installed, err := systemd.Installed(root)
	if diff := cmp.Diff([]string{"trove.target", "trove-taskmanager.service", "trove-api.service", "trove-conductor.service"}, installed); err != nil || diff != "" {
		t.Errorf("installed: %v %s", err, diff)
	}
	if err := systemd.Remove(root, installed); err != nil {
		t.Fatal(err)
	}
	if installed, err = systemd.Installed(root); err != nil || len(installed) != 0 {
		t.Errorf("after the removal: %v %v", installed, err)
	}
	stranger := filepath.Join(root, systemd.Dir, "trove.service")
	if err := os.WriteFile(stranger, []byte("[Service]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = systemd.Write(root, systemd.Units(systemd.Spec{Program: "/usr/bin/trove", State: "/s"}))
	if trove.KindOf(err) != trove.KindConflict || !strings.Contains(err.Error(), stranger) {
		t.Errorf("over a stranger's unit: %v", err)
	}
	if err := systemd.Remove(root, []string{"trove.service"}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("removal of a stranger's unit: %v", err)
	}
}

func TestReadyIsToldOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	t.Setenv("NOTIFY_SOCKET", socket)
	if err := systemd.Ready(); err != nil {
		t.Fatal(err)
	}
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	n, err := l.Read(got)
	if err != nil || string(got[:n]) != "READY=1" {
		t.Errorf("systemd was told %q: %v", got[:n], err)
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		t.Error("programs that are started next would see the socket")
	}
	if err := systemd.Ready(); err != nil {
		t.Errorf("without systemd: %v", err)
	}
}
