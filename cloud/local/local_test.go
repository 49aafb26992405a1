package local_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
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
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir, err := images(); err == nil {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code) //nolint:forbidigo // what goleak would do
	}))
}

type deployment struct {
	config local.Config
	net    *hostnet.Net
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
		State: tb.TempDir(), Images: dir, PoolGiB: 20, Log: slog.New(slog.NewTextHandler(tb.Output(), nil)), Clock: clock.System{},
	}}
	d.net, err = hostnet.Open(tb.Context(), hostnet.Config{State: d.config.State, ControllerPorts: []int{4222, 4223}, Log: d.config.Log})
	if err != nil {
		tb.Fatal(err)
	}
	d.config.Net = network{d.net}
	d.Provider = d.open(tb)
	ourMu.Lock()
	our = append(our, d.config.State, filepath.Base(d.RunDir()))
	ourMu.Unlock()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Destroy(ctx); err != nil {
			tb.Errorf("destroy: %v", err)
		}
		if err := d.net.Close(); err != nil {
			tb.Error(err)
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

// network is the host's network in the words of the provider.
type network struct{ *hostnet.Net }

func (n network) EnsureInstance(ctx context.Context, s local.NetSpec) (local.NetInstance, error) {
	p, err := n.Net.EnsureInstance(ctx, hostnet.Spec{Instance: s.Instance, Address: s.Address, Access: s.Access, TCPPorts: s.TCPPorts})
	return attachment(p), err
}

func (n network) FindInstance(ctx context.Context, instance string) (local.NetInstance, error) {
	p, err := n.Net.FindInstance(ctx, instance)
	return attachment(p), err
}

func (n network) Instances(ctx context.Context) ([]local.NetInstance, error) {
	found, err := n.Net.Instances(ctx)
	var all []local.NetInstance
	for _, p := range found {
		all = append(all, attachment(p))
	}
	return all, err
}

func attachment(p hostnet.Ports) local.NetInstance {
	return local.NetInstance{Instance: p.Instance, Netns: p.Netns, Address: p.Address}
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
	d.awaitLine(tb, id, "agent is up")
}

func (d *deployment) awaitLine(tb testing.TB, id, line string) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		out := d.console(id)
		if strings.Contains(out, line) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the agent did not come up within a minute; it said %q", out)
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
