package guestagent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
)

// upgrades is a guest whose agent can be replaced, with a gateway that has one program.
type upgrades struct {
	*guest
	slots   slots.Dir
	key     ed25519.PrivateKey
	program []byte
	fetched atomic.Int32
	away    atomic.Int32 // so many reads fail before one succeeds
}

func newUpgrades(t *testing.T) *upgrades {
	t.Helper()
	u := &upgrades{guest: newGuest(t), program: []byte("the new agent")}
	u.slots = slots.Dir(filepath.Join(u.layout.State, "agents"))
	path := filepath.Join(t.TempDir(), "key")
	if _, err := agentrelease.GenerateKey(path); err != nil {
		t.Fatal(err)
	}
	var err error
	if u.key, err = agentrelease.ReadPrivateKey(path); err != nil {
		t.Fatal(err)
	}
	u.cfg.Upgrade = &guestagent.Upgrade{
		Slots: u.slots, Keys: path + ".pub", Image: "1.0.0", Bus: func() []string { return []string{"192.0.2.1:4222"} }, Fetch: u.fetch,
	}
	return u
}

func (u *upgrades) fetch(_ context.Context, g guestapi.Grant, object string) (io.ReadCloser, error) {
	if g.Token != "let me" || object != "agents/1.3.0/trove-guestagent" {
		return nil, trove.Errorf(trove.KindForbidden, "The grant is not for %s.", object)
	}
	if u.away.Add(-1) >= 0 {
		return nil, trove.Errorf(trove.KindUnavailable, "The gateway is away.")
	}
	u.fetched.Add(1)
	return io.NopCloser(bytes.NewReader(u.program)), nil
}

// args makes the command's arguments for a program that was signed.
func (u *upgrades) args(version string, change func(*agentrelease.Manifest)) guestapi.UpgradeAgentArgs {
	u.t.Helper()
	file := filepath.Join(u.t.TempDir(), "p")
	if err := os.WriteFile(file, u.program, 0o600); err != nil {
		u.t.Fatal(err)
	}
	m, err := agentrelease.Describe(file, agentrelease.VersionOf(version), runtime.GOOS, runtime.GOARCH)
	if err != nil {
		u.t.Fatal(err)
	}
	if change != nil {
		change(&m)
	}
	signed, err := agentrelease.Sign(u.key, m)
	if err != nil {
		u.t.Fatal(err)
	}
	return guestapi.UpgradeAgentArgs{
		Version: m.Version, SHA256: m.SHA256, Manifest: signed.Manifest, Signature: signed.Signature, HealthySeconds: 7,
		Grant: guestapi.Grant{Token: "let me", Expires: time.Now().Add(time.Hour)},
	}
}

// untilReplaced waits for the agent to end by itself.
func (u *upgrades) untilReplaced() {
	u.t.Helper()
	u.until("the agent ends", func() bool { return !u.broker.Listening(guestapi.CommandSubject(u.id)) })
	u.stop()
}

func TestUpgradeAgent(t *testing.T) {
	u := newUpgrades(t)
	u.prepared()
	engine := u.enginePID()
	u.away.Store(1) // the gateway is away for a moment
	if _, fail := ask[guestapi.OperationStatus](u.guest, guestapi.CmdUpgradeAgent, "op/upgrade", u.args("1.3.0", nil)); fail != nil {
		t.Fatalf("%+v", fail)
	}
	u.untilReplaced()
	wanted, err := u.slots.ReadWanted()
	want := &slots.Wanted{Version: "1.3.0", Op: "op/upgrade", EngineUp: true, Bus: []string{"192.0.2.1:4222"}, Healthy: 7 * time.Second}
	if err != nil || cmp.Diff(want, wanted) != "" {
		t.Error(err, cmp.Diff(want, wanted))
	}
	program := filepath.Join(u.slots.Release("1.3.0"), agentrelease.ProgramFile)
	if data, err := os.ReadFile(program); err != nil || !bytes.Equal(data, u.program) {
		t.Errorf("the program is %q, %v", data, err)
	}
	if info, err := os.Stat(program); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	// The first process starts the new one; it takes the command up, and is not done before it was confirmed.
	must(t, u.slots.WriteState(slots.State{Trial: want}))
	must(t, u.slots.DropWanted())
	u.cfg.Version = "1.3.0"
	u.start()
	u.until("it tells the first process that it is well", func() bool {
		life, err := slots.ReadLife(u.layout.Runtime)
		return err == nil && life == slots.Life{PID: os.Getpid(), Version: "1.3.0", Engine: engine, Service: "healthy", Bus: true}
	})
	if s, _ := ask[guestapi.OperationStatus](u.guest, guestapi.CmdStatus, "s", guestapi.StatusArgs{ID: "op/upgrade"}); s.State != guestapi.StateRunning {
		t.Errorf("before it was confirmed it is %+v", s)
	}
	must(t, u.slots.WriteState(slots.State{Current: "1.3.0", Highest: "1.3.0"}))
	if s := u.await("op/upgrade"); s.State != guestapi.StateDone || s.Sentence != "The guest agent is release 1.3.0." {
		t.Errorf("the end is %+v", s)
	}
	// The same release again changes nothing.
	if s := u.long(guestapi.CmdUpgradeAgent, "op2/upgrade", u.args("1.3.0", nil)); s.State != guestapi.StateDone {
		t.Errorf("again: %+v", s)
	}
	if n := u.fetched.Load(); n != 1 {
		t.Errorf("it was fetched %d times", n)
	}
	if now := u.enginePID(); now != engine {
		t.Errorf("the engine is %d, it was %d", now, engine)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpgradeAgentThatWasTakenBack(t *testing.T) {
	u := newUpgrades(t)
	u.prepared()
	if _, fail := ask[guestapi.OperationStatus](u.guest, guestapi.CmdUpgradeAgent, "op/upgrade", u.args("1.3.0", nil)); fail != nil {
		t.Fatalf("%+v", fail)
	}
	u.untilReplaced()
	must(t, u.slots.DropWanted())
	must(t, u.slots.WriteState(slots.State{Failed: &slots.Failed{Version: "1.3.0", Op: "op/upgrade", Sentence: "It was taken back: it crashed."}}))
	u.start()
	s := u.await("op/upgrade")
	if s.State != guestapi.StateFailed || s.Error == nil || s.Error.Kind != trove.KindUnprocessable || s.Error.Message != "It was taken back: it crashed." {
		t.Errorf("the end is %+v, %+v", s, s.Error)
	}
	hello, _ := ask[guestapi.Hello](u.guest, guestapi.CmdPing, "p", nil)
	if hello.TakenBack != "1.3.0" || !slices.Contains(hello.Commands, guestapi.CmdUpgradeAgent) {
		t.Errorf("hello is %+v", hello)
	}
	u.until("a heartbeat says so", func() bool { return u.lastHeartbeat().TakenBack == "1.3.0" })
	// Under a new id it is tried again.
	if _, fail := ask[guestapi.OperationStatus](u.guest, guestapi.CmdUpgradeAgent, "op2/upgrade", u.args("1.3.0", nil)); fail != nil {
		t.Fatalf("%+v", fail)
	}
	u.untilReplaced()
	if w, err := u.slots.ReadWanted(); err != nil || w == nil || w.Op != "op2/upgrade" {
		t.Errorf("wanted is %+v, %v", w, err)
	}
}

func TestUpgradeAgentIsRefused(t *testing.T) {
	u := newUpgrades(t)
	u.prepared()
	_, stranger, err := ed25519.GenerateKey(nil)
	must(t, err)
	good := u.args("1.3.0", nil)
	changed := func(change func(*guestapi.UpgradeAgentArgs)) guestapi.UpgradeAgentArgs {
		a := good
		a.Manifest = slices.Clone(good.Manifest)
		change(&a)
		return a
	}
	for name, c := range map[string]struct {
		args guestapi.UpgradeAgentArgs
		says string
	}{
		"older":                {u.args("1.2.2", nil), "Release 1.2.2 is older than 1.2.3: the guest agent is not downgraded."},
		"unsigned":             {changed(func(a *guestapi.UpgradeAgentArgs) { a.Signature = nil }), "is not signed"},
		"a stranger's":         {changed(func(a *guestapi.UpgradeAgentArgs) { a.Signature = ed25519.Sign(stranger, a.Manifest) }), "not by a key that is trusted"},
		"tampered":             {changed(func(a *guestapi.UpgradeAgentArgs) { a.Manifest[30] ^= 1 }), "was changed"},
		"another version":      {changed(func(a *guestapi.UpgradeAgentArgs) { a.Version = "1.4.0" }), "its manifest about 1.3.0"},
		"another processor":    {u.args("1.3.0", func(m *agentrelease.Manifest) { m.Arch = "s390x" }), "is for linux/s390x"},
		"not what was signed":  {u.args("1.3.0", func(m *agentrelease.Manifest) { m.SHA256 = strings.Repeat("0", 64) }), "is not the one that was signed"},
		"no right to fetch it": {changed(func(a *guestapi.UpgradeAgentArgs) { a.Grant.Token = "" }), "The grant is not for"},
	} {
		s := u.long(guestapi.CmdUpgradeAgent, "op/"+strings.ReplaceAll(name, " ", "-"), c.args)
		if s.State != guestapi.StateFailed || s.Error == nil || !strings.Contains(s.Error.Message, c.says) {
			t.Errorf("%s: %+v %+v", name, s, s.Error)
		}
	}
	if w, err := u.slots.ReadWanted(); err != nil || w != nil {
		t.Errorf("wanted is %+v, %v", w, err)
	}
	entries, err := os.ReadDir(string(u.slots))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestUpgradeIsNotOfferedWithoutAFirstProcess(t *testing.T) {
	g := newGuest(t)
	g.start()
	hello, _ := ask[guestapi.Hello](g, guestapi.CmdPing, "p", nil)
	if slices.Contains(hello.Commands, guestapi.CmdUpgradeAgent) {
		t.Error("an agent that cannot be replaced offers to be")
	}
	s := g.long(guestapi.CmdUpgradeAgent, "op/upgrade", guestapi.UpgradeAgentArgs{})
	if s.State != guestapi.StateFailed || s.Error.Kind != trove.KindNotImplemented {
		t.Errorf("given nevertheless: %+v", s)
	}
}
