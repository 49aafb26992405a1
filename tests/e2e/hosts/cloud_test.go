package hosts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// The fake cloud of the test's process, for controllers in other processes: each method is a POST of its arguments to /<method>.

// reply is an answer: a value, or an error with its kind.
type reply struct {
	Failed    bool
	Value     json.RawMessage
	Kind      trove.Kind
	Message   string
	Permanent bool
}

// Arguments of methods that have more than one, or none.
type (
	resizeArgs struct {
		Instance string
		Flavor   trove.Flavor
	}
	nameArgs struct {
		Instance  string
		Addresses []trove.Address
	}
	nothing struct{}
)

// method decodes arguments, calls, and encodes what comes back.
func method[A, R any](f func(context.Context, A) (R, error)) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, body []byte) (any, error) {
		var args A
		if err := json.Unmarshal(body, &args); err != nil {
			return nil, err
		}
		return f(ctx, args)
	}
}

func alone[A any](f func(context.Context, A) error) func(context.Context, A) (nothing, error) {
	return func(ctx context.Context, a A) (nothing, error) { return nothing{}, f(ctx, a) }
}

func listed[R any](f func(context.Context) (R, error)) func(context.Context, nothing) (R, error) {
	return func(ctx context.Context, _ nothing) (R, error) { return f(ctx) }
}

func catalogued[R any](f func(context.Context, cloud.Rights) (R, error)) func(context.Context, nothing) (R, error) {
	return func(ctx context.Context, _ nothing) (R, error) { return f(ctx, cloud.AsService()) }
}

// serveCloud returns the server's side.
func serveCloud(p cloud.Provider) http.Handler {
	methods := map[string]func(context.Context, []byte) (any, error){
		"EnsureMachine": method(p.EnsureMachine), "FindMachine": method(p.FindMachine), "StopMachine": method(alone(p.StopMachine)),
		"RebootMachine": method(alone(p.RebootMachine)), "RemoveMachine": method(alone(p.RemoveMachine)), "Machines": method(listed(p.Machines)),
		"ResizeMachine": method(func(ctx context.Context, a resizeArgs) (cloud.Machine, error) {
			return p.ResizeMachine(ctx, a.Instance, a.Flavor)
		}),
		"EnsureVolume": method(p.EnsureVolume), "FindVolume": method(p.FindVolume), "RemoveVolume": method(alone(p.RemoveVolume)), "Volumes": method(listed(p.Volumes)),
		"EnsureNetwork": method(p.EnsureNetwork), "FindNetwork": method(p.FindNetwork), "RemoveNetwork": method(alone(p.RemoveNetwork)), "Networks": method(listed(p.Networks)),
		"EnsureName": method(func(ctx context.Context, a nameArgs) (string, error) {
			return p.EnsureName(ctx, a.Instance, a.Addresses)
		}),
		"RemoveName": method(alone(p.RemoveName)),
		"Flavors":    method(catalogued(p.Flavors)), "VolumeTypes": method(catalogued(p.VolumeTypes)), "TenantNetworks": method(catalogued(p.TenantNetworks)),
		"Flavor": method(func(ctx context.Context, id string) (trove.Flavor, error) {
			return p.Flavor(ctx, cloud.AsService(), id)
		}),
		"ImageExists": method(alone(p.ImageExists)),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := methods[strings.TrimPrefix(r.URL.Path, "/")]
		body, err := io.ReadAll(r.Body)
		if f == nil || err != nil {
			http.NotFound(w, r)
			return
		}
		var a reply
		value, err := f(r.Context(), body)
		if err == nil {
			a.Value, err = json.Marshal(value)
		}
		if err != nil {
			a = reply{Failed: true, Kind: trove.KindOf(err), Message: err.Error(), Permanent: trove.IsPermanent(err)}
		}
		_ = json.NewEncoder(w).Encode(a) // the caller has gone
	})
}

// remoteCloud is the client's side.
type remoteCloud struct {
	url    string
	client *http.Client
}

var _ cloud.Provider = remoteCloud{}

func openRemote(url string) remoteCloud {
	return remoteCloud{url, &http.Client{Timeout: 10 * time.Second}}
}

func call[R any](ctx context.Context, c remoteCloud, name string, args any) (value R, err error) {
	body, err := json.Marshal(args)
	if err != nil {
		return value, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/"+name, bytes.NewReader(body))
	if err != nil {
		return value, err
	}
	res, err := c.client.Do(r)
	if err != nil {
		return value, fmt.Errorf("cloud: %w", err)
	}
	defer res.Body.Close()
	var a reply
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return value, fmt.Errorf("cloud: %w", err)
	}
	if a.Failed {
		err := error(trove.Errorf(a.Kind, "%s", a.Message))
		if a.Permanent {
			err = trove.Permanent(err)
		}
		return value, err
	}
	return value, json.Unmarshal(a.Value, &value)
}

func do(ctx context.Context, c remoteCloud, name string, args any) error {
	_, err := call[nothing](ctx, c, name, args)
	return err
}

func (c remoteCloud) EnsureMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	return call[cloud.Machine](ctx, c, "EnsureMachine", s)
}

func (c remoteCloud) FindMachine(ctx context.Context, id string) (cloud.Machine, error) {
	return call[cloud.Machine](ctx, c, "FindMachine", id)
}

func (c remoteCloud) StopMachine(ctx context.Context, id string) error {
	return do(ctx, c, "StopMachine", id)
}

func (c remoteCloud) RebootMachine(ctx context.Context, id string) error {
	return do(ctx, c, "RebootMachine", id)
}

func (c remoteCloud) ResizeMachine(ctx context.Context, id string, f trove.Flavor) (cloud.Machine, error) {
	return call[cloud.Machine](ctx, c, "ResizeMachine", resizeArgs{id, f})
}

func (c remoteCloud) RemoveMachine(ctx context.Context, id string) error {
	return do(ctx, c, "RemoveMachine", id)
}

func (c remoteCloud) Machines(ctx context.Context) ([]cloud.Machine, error) {
	return call[[]cloud.Machine](ctx, c, "Machines", nothing{})
}

func (c remoteCloud) EnsureVolume(ctx context.Context, s cloud.VolumeSpec) (cloud.Volume, error) {
	return call[cloud.Volume](ctx, c, "EnsureVolume", s)
}

func (c remoteCloud) FindVolume(ctx context.Context, id string) (cloud.Volume, error) {
	return call[cloud.Volume](ctx, c, "FindVolume", id)
}

func (c remoteCloud) RemoveVolume(ctx context.Context, id string) error {
	return do(ctx, c, "RemoveVolume", id)
}

func (c remoteCloud) Volumes(ctx context.Context) ([]cloud.Volume, error) {
	return call[[]cloud.Volume](ctx, c, "Volumes", nothing{})
}

func (c remoteCloud) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	return call[cloud.Network](ctx, c, "EnsureNetwork", s)
}

func (c remoteCloud) FindNetwork(ctx context.Context, id string) (cloud.Network, error) {
	return call[cloud.Network](ctx, c, "FindNetwork", id)
}

func (c remoteCloud) RemoveNetwork(ctx context.Context, id string) error {
	return do(ctx, c, "RemoveNetwork", id)
}

func (c remoteCloud) Networks(ctx context.Context) ([]cloud.Network, error) {
	return call[[]cloud.Network](ctx, c, "Networks", nothing{})
}

func (c remoteCloud) EnsureName(ctx context.Context, id string, a []trove.Address) (string, error) {
	return call[string](ctx, c, "EnsureName", nameArgs{id, a})
}

func (c remoteCloud) RemoveName(ctx context.Context, id string) error {
	return do(ctx, c, "RemoveName", id)
}

func (c remoteCloud) Flavors(ctx context.Context, _ cloud.Rights) ([]trove.Flavor, error) {
	return call[[]trove.Flavor](ctx, c, "Flavors", nothing{})
}

func (c remoteCloud) Flavor(ctx context.Context, _ cloud.Rights, id string) (trove.Flavor, error) {
	return call[trove.Flavor](ctx, c, "Flavor", id)
}

func (c remoteCloud) VolumeTypes(ctx context.Context, _ cloud.Rights) ([]cloud.VolumeType, error) {
	return call[[]cloud.VolumeType](ctx, c, "VolumeTypes", nothing{})
}

func (c remoteCloud) TenantNetworks(ctx context.Context, _ cloud.Rights) ([]cloud.TenantNetwork, error) {
	return call[[]cloud.TenantNetwork](ctx, c, "TenantNetworks", nothing{})
}

func (c remoteCloud) ImageExists(ctx context.Context, id string) error {
	return do(ctx, c, "ImageExists", id)
}
