package local_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// images makes a directory with one tiny image: an empty root, the test agent, an empty golden volume of 512 MiB.
var images = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "trove-images-")
	if err != nil {
		return "", err
	}
	for _, d := range []string{"proc", "dev", "run", "tmp", "data", "agent", "config", "etc"} {
		if err := os.MkdirAll(filepath.Join(imagelayout.RootFS(dir, imageID), d), 0o755); err != nil {
			return "", err
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(imagelayout.AgentPath(dir, imageID), "trove-guestagent"), "./sandbox/testdata/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return string(out), err
	}
	golden := filepath.Join(imagelayout.Dir(dir, imageID), "golden-512.img")
	if err := volume.Make(context.Background(), volume.Spec{Image: golden, Size: 512 << 20}); err != nil {
		return "", err
	}
	return dir, imagelayout.Write(dir, imagelayout.Manifest{
		ID: imageID, Datastore: "test", Version: "1", Manager: "fake", Goldens: []imagelayout.Golden{{File: "golden-512.img", SizeMiB: 512}},
	})
})

const imageID = "0d7f5a3e-52c1-4b7a-8a64-3c1d3f1c0001"

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := images(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code) //nolint:forbidigo // TestMain has to
}

type deployment struct {
	config local.Config
	*local.Provider
}

func deploy(tb testing.TB) *deployment {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root: namespaces, mounts, loop devices, control groups")
	}
	dir, err := images()
	if err != nil {
		tb.Fatalf("make the test image: %v: %s", err, dir)
	}
	d := &deployment{config: local.Config{
		State: tb.TempDir(), Images: dir, PoolGiB: 40, Log: slog.New(slog.NewTextHandler(tb.Output(), nil)), Clock: clock.System{},
	}}
	d.config.Net = &spaces{prefix: "trove-test-" + trove.NewID()[:8], names: map[string]int{}}
	d.Provider = d.open(tb)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Destroy(ctx); err != nil {
			tb.Errorf("destroy: %v", err)
		}
	})
	return d
}

// open opens another provider over the same state.
func (d *deployment) open(tb testing.TB) *local.Provider {
	tb.Helper()
	p, err := local.Open(tb.Context(), d.config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// spaces is a network without connections: a namespace per instance.
type spaces struct {
	prefix string
	mu     sync.Mutex
	names  map[string]int
}

func (s *spaces) EnsureInstance(ctx context.Context, spec local.NetSpec) (local.NetInstance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.names[spec.Instance]; !ok {
		if out, err := exec.CommandContext(ctx, "ip", "netns", "add", s.prefix+spec.Instance).CombinedOutput(); err != nil {
			return local.NetInstance{}, trove.Wrap(trove.KindInternal, err, "%s", out)
		}
		s.names[spec.Instance] = len(s.names) + 2
	}
	return s.instance(spec.Instance), nil
}

func (s *spaces) instance(id string) local.NetInstance {
	return local.NetInstance{Instance: id, Netns: "/run/netns/" + s.prefix + id, Address: netip.AddrFrom4([4]byte{10, 9, 0, byte(s.names[id])})}
}

func (s *spaces) FindInstance(_ context.Context, id string) (local.NetInstance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.names[id]; !ok {
		return local.NetInstance{}, trove.Errorf(trove.KindNotFound, "none")
	}
	return s.instance(id), nil
}

func (s *spaces) RemoveInstance(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.names[id]; !ok {
		return nil
	}
	delete(s.names, id)
	return exec.CommandContext(ctx, "ip", "netns", "del", s.prefix+id).Run()
}

func (s *spaces) Instances(context.Context) ([]local.NetInstance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []local.NetInstance
	for id := range s.names {
		all = append(all, s.instance(id))
	}
	return all, nil
}

func (s *spaces) TenantSubnet() netip.Prefix { return netip.MustParsePrefix("10.9.0.0/24") }

func (s *spaces) Probe(context.Context) error { return nil }

func (s *spaces) Destroy(ctx context.Context) error {
	all, _ := s.Instances(ctx)
	for _, n := range all {
		if err := s.RemoveInstance(ctx, n.Instance); err != nil {
			return err
		}
	}
	return nil
}

// create makes a whole instance and waits for the agent's first line.
func (d *deployment) create(tb testing.TB, id string, sizeGiB int) cloud.Machine {
	tb.Helper()
	ctx := tb.Context()
	if _, err := d.EnsureNetwork(ctx, cloud.NetworkSpec{Instance: id}); err != nil {
		tb.Fatal(err)
	}
	if _, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: sizeGiB, ImageID: imageID}); err != nil {
		tb.Fatal(err)
	}
	m, err := d.EnsureMachine(ctx, cloud.MachineSpec{
		Instance: id, Name: "orders db", ImageID: imageID, Flavor: local.DefaultFlavors()[0], BootData: []byte(`{"token":"once"}`),
	})
	if err != nil {
		tb.Fatal(err)
	}
	d.awaitAgent(tb, id)
	return m
}

func (d *deployment) awaitAgent(tb testing.TB, id string) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		out := d.console(id)
		if strings.Contains(out, "agent is up") {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the agent did not come up within 10 s; it said %q", out)
		}
		if err := clock.Sleep(tb.Context(), time.Millisecond); err != nil {
			tb.Fatal(err)
		}
	}
}

func (d *deployment) console(id string) string {
	data, _ := os.ReadFile(filepath.Join(d.RunDir(), "i", id, "console.log"))
	return string(data)
}

func TestFirstInstance(t *testing.T) {
	d := deploy(t)
	started := time.Now()
	d.create(t, trove.NewID(), 1)
	t.Logf("took %s", time.Since(started))
}
