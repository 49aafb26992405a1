package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// guest is an instance seen from the host.
type guest struct {
	t  *testing.T
	d  *deployment // with an administrator's rights
	id string
}

// admin returns the deployment as its administrator sees it.
func (d *deployment) admin() *deployment {
	d.t.Helper()
	a := *d
	a.env = append([]string(nil), d.env...)
	if err := a.readOpenrc("openrc-admin"); err != nil {
		d.t.Fatal(err)
	}
	c, err := a.newClient()
	if err != nil {
		d.t.Fatal(err)
	}
	a.client = c
	return &a
}

// processes returns the process ids of the sandbox with their command lines.
func (g *guest) processes() map[int]string {
	all := map[int]string{}
	var files []string
	for _, pattern := range []string{"/sys/fs/cgroup/pids/trove-*/%s/cgroup.procs", "/sys/fs/cgroup/trove-*/%s/cgroup.procs"} {
		found, err := filepath.Glob(fmt.Sprintf(pattern, g.id))
		if err != nil {
			g.t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		for pid := range strings.FieldsSeq(string(data)) {
			n, err := strconv.Atoi(pid)
			if err != nil {
				g.t.Fatal(err)
			}
			line, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline")) // "" when it ended
			all[n] = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return all
}

// process returns the process whose command line has the text, 0 if there is none.
func (g *guest) process(text string) int {
	for pid, line := range g.processes() {
		if strings.Contains(line, text) {
			return pid
		}
	}
	return 0
}

func (g *guest) agent() int { return g.process("trove-guestagent agent") }

// engine returns the database's process with its start time.
func (g *guest) engine() string {
	g.t.Helper()
	pid := g.process("mariadbd")
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		g.t.Fatalf("there is no engine: %v in %v", err, g.processes())
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	return fmt.Sprintf("%d since %s", pid, fields[20])
}

// inside runs a shell script as the sandbox's root.
func (g *guest) inside(script string) {
	g.t.Helper()
	pid := g.process("trove-guestagent init")
	out, err := exec.Command("nsenter", "--target", strconv.Itoa(pid), "--user", "--mount", "--pid", "--setuid", "0", "--setgid", "0", "sh", "-ec", script).CombinedOutput()
	if err != nil {
		g.t.Fatalf("in the guest: %v %s", err, out)
	}
}

// killAgent kills the agent and waits for the next one.
func (g *guest) killAgent() {
	g.t.Helper()
	var old int
	eventually(g.t, patience, "an agent that runs", func() bool { old = g.agent(); return old != 0 })
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		g.t.Fatal(err)
	}
	eventually(g.t, patience, "the next agent", func() bool { now := g.agent(); return now != 0 && now != old })
}

// version returns the agent's version that the controllers know.
func (g *guest) version() string {
	g.t.Helper()
	all, err := g.d.client.AllAgents(g.t.Context())
	if err != nil {
		return err.Error()
	}
	for _, a := range all {
		if a.InstanceID == g.id {
			return a.Version
		}
	}
	return ""
}

// events returns the kinds of the instance's timeline.
func (g *guest) events() string {
	return g.d.trove("instance", "events", g.id, "-f", "value", "-c", "event")
}

// refused gives a command that must fail with a sentence.
func (g *guest) refused(says string, args ...string) {
	g.t.Helper()
	out, err := g.d.try(args...)
	if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "goroutine") {
		g.t.Errorf("trove %s: %s\n%v\nwant a refusal that says %q", strings.Join(args, " "), out, err, says)
	}
}

// build builds a program as a release of the agent is built.
func build(t *testing.T, pkg, variable string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w -X main." + variable, "-o", out}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	return out
}

// sign makes a release and returns its directory.
func (g *guest) sign(program, key, version string) string {
	g.t.Helper()
	out := filepath.Join(g.t.TempDir(), version)
	g.d.trove("manage", "agent", "sign", program, "--key", key, "--release", version, "--out", out)
	return out
}

// add gives a signed release to the service.
func (g *guest) add(program, key, version string) {
	g.t.Helper()
	g.d.trove("manage", "agent", "add", g.sign(program, key, version), "--state", g.d.state)
}

// TestAgentLife kills, upgrades, takes back and refuses agents; a client that asks 20 times a second sees nothing of it, and the database is the same
// process throughout.
func TestAgentLife(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("agent-1")
	g := &guest{t: t, d: d.admin(), id: i.ID}
	key := filepath.Join(d.state, "keys", "agent-release")
	crash, silent := build(t, "./tests/e2e/testdata/badagent", "mode=crash"), build(t, "./tests/e2e/testdata/badagent", "mode=silent")
	good := build(t, "./cmd/trove-guestagent", "version=1.1.0")
	engine := g.engine()
	stop := query20Hz(t, open(t, i, "app", password, "app"))
	steps := []struct {
		name string
		do   func()
	}{
		{"kill", g.killAgent},
		{"upgrade", func() { g.upgradeWell(good, key) }},
		{"kill the release", g.killAgent},
		{"crash at the start", func() {
			g.add(crash, key, "1.2.0")
			g.refused("taken back: it ended 3 times before it was well; at last it ended with status 3", "agent", "upgrade", i.ID, "--release", "1.2.0")
		}},
		{"silent", func() {
			g.add(silent, key, "1.3.0")
			g.refused("taken back: within 5s it said nothing of itself", "agent", "upgrade", i.ID, "--release", "1.3.0", "--healthy-within", "5")
		}},
		{"refused", func() { g.refusals(crash, key) }},
	}
	for _, s := range steps {
		began := time.Now()
		s.do()
		t.Logf("%s: %s", s.name, time.Since(began).Round(time.Millisecond))
		if now := g.engine(); now != engine {
			t.Errorf("after %q the engine is %s, it was %s", s.name, now, engine)
			engine = now
		}
		if now := d.instance(i.ID); now.Status != "ACTIVE" || now.Fault != nil {
			t.Errorf("after %q the instance is %s, %+v", s.name, now.Status, now.Fault)
		}
	}
	eventually(t, patience, "the release that was well last", func() bool { return g.version() == "1.1.0" })
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries failed", failed)
	}
	if n := strings.Count(g.events(), trove.EventAgentRefused); n != 5 {
		t.Errorf("the timeline tells %d upgrades that did not come to their end:\n%s", n, g.events())
	}
	g.attack(crash, key)
}

// resident returns the memory of the sandbox's first process and of its agent, in KiB.
func (g *guest) resident() (first, agent int) {
	g.t.Helper()
	for pid, n := range map[int]*int{g.process("trove-guestagent init"): &first, g.agent(): &agent} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			g.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), "VmRSS:")
		if _, err := fmt.Sscan(rest, n); err != nil {
			g.t.Fatal(err)
		}
	}
	return first, agent
}

func (g *guest) upgradeWell(program, key string) {
	g.t.Helper()
	g.add(program, key, "1.1.0")
	first, agent := g.resident()
	g.t.Logf("resident before: %d KiB first process, %d KiB agent", first, agent)
	defer func() {
		first, agent := g.resident()
		g.t.Logf("resident after: %d KiB first process, %d KiB agent", first, agent)
	}()
	g.d.trove("agent", "upgrade", g.id)
	if v := g.version(); v != "1.1.0" {
		g.t.Errorf("the agent is %s", v)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.agent()))
	if err != nil || !strings.HasPrefix(exe, "/memfd:trove-guestagent-1.1.0") {
		g.t.Errorf("it runs from %s, %v", exe, err)
	}
}

// refusals are releases that never come into a guest.
func (g *guest) refusals(program, key string) {
	g.t.Helper()
	dir := g.t.TempDir()
	stranger := filepath.Join(dir, "stranger")
	g.d.trove("manage", "agent", "keygen", stranger)
	state := []string{"--state", g.d.state}
	unsigned := g.sign(program, key, "1.5.0")
	if err := os.Remove(filepath.Join(unsigned, "manifest.sig")); err != nil {
		g.t.Fatal(err)
	}
	g.refused("is not signed", append([]string{"manage", "agent", "add", unsigned}, state...)...)
	g.refused("not by a key that is trusted", append([]string{"manage", "agent", "add", g.sign(program, stranger, "1.5.0")}, state...)...)
	tampered := g.sign(program, key, "1.5.0")
	if err := os.WriteFile(filepath.Join(tampered, "trove-guestagent"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.refused("not the one that was signed", append([]string{"manage", "agent", "add", tampered}, state...)...)
	g.refused("There is no release 1.5.0", "agent", "upgrade", g.id, "--release", "1.5.0")
	// What is changed where the service keeps it is found before a guest gets it.
	g.add(program, key, "1.6.0")
	if err := os.WriteFile(filepath.Join(g.d.state, "agents", "1.6.0", "trove-guestagent"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	_, err := g.d.try("agent", "upgrade", g.id, "--release", "1.6.0")
	if err == nil || !strings.Contains(err.Error(), "not the one that was signed") {
		g.t.Errorf("a release that was changed in the store: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(g.d.state, "agents", "1.6.0")); err != nil {
		g.t.Fatal(err)
	}
	g.add(program, key, "1.0.5")
	g.refused("Release 1.0.5 is older than 1.1.0: the guest agent is not downgraded", "agent", "upgrade", g.id, "--release", "1.0.5")
}

// attack lets root in the guest try to go back to an older agent, past the agent: what was not signed, or is older than what ran, is not run; when the
// record itself is forged, the image's agent runs and the controllers raise an alarm.
func (g *guest) attack(program, key string) {
	g.t.Helper()
	older, unsigned := g.sign(program, key, "1.0.7"), g.sign(program, key, "1.7.0")
	script := "cd /data/trove/agents\n"
	for version, dir := range map[string]string{"1.0.7": older, "1.7.0": unsigned} {
		manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err != nil {
			g.t.Fatal(err)
		}
		script += "mkdir -p " + version + "\ncp /agent/trove-guestagent " + version + "/trove-guestagent\ncat >" + version + "/manifest.json <<'END'\n" + string(manifest) + "END\n"
	}
	g.inside(script)
	for _, version := range []string{"1.0.7", "1.7.0"} {
		wanted, err := json.Marshal(map[string]any{"version": version, "op": "forged-" + version, "healthy": 5e9})
		if err != nil {
			g.t.Fatal(err)
		}
		g.inside("cat >/data/trove/agents/wanted.json <<'END'\n" + string(wanted) + "\nEND\n")
		g.killAgent()
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.agent()))
		if err != nil || !strings.HasPrefix(exe, "/memfd:trove-guestagent-1.1.0") {
			g.t.Errorf("after %s was forged there runs %s, %v", version, exe, err)
		}
	}
	if strings.Contains(g.events(), trove.EventAgentDowngraded) {
		g.t.Error("there was an alarm before there was a reason")
	}
	// With the record gone nothing in the guest knows what ran before; the controllers do.
	g.inside("rm -r /data/trove/agents")
	g.d.trove("instance", "stop", g.id, "--wait")
	g.d.trove("instance", "start", g.id, "--wait")
	eventually(g.t, patience, "the alarm", func() bool { return strings.Contains(g.events(), trove.EventAgentDowngraded) })
	if v := g.version(); v == "1.1.0" {
		g.t.Errorf("a release without files runs: %s", v)
	}
}

// TestAgentUpgradeWithoutTheControlPlane kills the control plane while an agent is replaced: the guest goes on by itself, and the next control plane
// learns the end. Before that an agent is killed with nobody there to see it.
func TestAgentUpgradeWithoutTheControlPlane(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("agent-2")
	g := &guest{t: t, d: d.admin(), id: i.ID}
	g.add(build(t, "./cmd/trove-guestagent", "version=1.4.0"), filepath.Join(d.state, "keys", "agent-release"), "1.4.0")
	engine, old := g.engine(), g.agent()
	stop := query20Hz(t, open(t, i, "app", password, "app"))
	op, err := g.d.client.UpgradeAgent(t.Context(), i.ID, wire.UpgradeAgentArgs{Version: "1.4.0", HealthySeconds: 20})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the old agent to make room", func() bool { return g.agent() != old })
	d.killGroup()
	eventually(t, patience, "the new agent", func() bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.agent()))
		return err == nil && strings.Contains(exe, "1.4.0")
	})
	g.killAgent() // with nobody there
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	*shared.d = deployment{state: d.state, listen: d.listen, client: d.client, env: d.env}
	g.d = d.admin()
	var end wire.Operation
	eventually(t, patience, "the operation's end", func() bool {
		end, err = g.d.client.Operation(t.Context(), i.ID, op, 0, 0)
		return err == nil && end.State != string(trove.OperationOpen)
	})
	if end.State != string(trove.OperationDone) || g.version() != "1.4.0" {
		t.Errorf("the operation is %s (%s), the agent %s", end.State, end.Error, g.version())
	}
	if now := g.engine(); now != engine {
		t.Errorf("the engine is %s, it was %s", now, engine)
	}
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries failed", failed)
	}
}
