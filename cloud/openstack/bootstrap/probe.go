package bootstrap

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// ProbeName is what a probe guest, its port and its volume are called. There is one at a time: a probe removes what an earlier one left.
const ProbeName = "trove-probe"

// ProbeSpec is what a probe guest is made of.
type ProbeSpec struct {
	Image      string // Glance's id
	Flavor     string // name; "": the smallest that the image fits on, of those that are wanted
	VolumeType string // "": Cinder's default
	Zone       string // "": Nova chooses
	InZone     bool   // its volume is made in Cinder's zone of that name
	CABundle   string
	EnrolPort  int
	Timeout    time.Duration
	Poll       time.Duration // how often it is looked; 0: every 3 s
}

// probe is a probe under way.
type probe struct {
	spec                     ProbeSpec
	w                        Wanted
	f                        Found
	network, compute, volume rest
	tell                     func(string)

	port   Port
	disk   Named
	server Named
}

// Probe boots a guest on the management network as the service user would, and waits until its console says that it has spoken with the enrolment endpoint. All
// that it made is removed. An error is a reason why there could be no probe.
func (b *Bootstrap) Probe(ctx context.Context, w Wanted, f Found, as Services, spec ProbeSpec, tell func(string)) (n Finding, err error) {
	n = Finding{Part: PartProbe, Name: ProbeName, Level: Missing}
	if len(f.Networks) != 1 || len(f.Subnets) != 1 || len(f.Groups) != 1 {
		n.Detail = "there is no management network, subnet or security group for it yet"
		return n, nil
	}
	p := &probe{spec: spec, w: w, f: f, tell: tell}
	if p.network, err = open(as.Network); err != nil {
		return n, err
	}
	if p.compute, err = open(as.Compute); err != nil {
		return n, err
	}
	if p.volume, err = open(as.Volume); err != nil {
		return n, err
	}
	if err := p.clear(ctx); err != nil {
		return n, fmt.Errorf("remove an earlier probe: %w", err)
	}
	defer func() {
		tell("removing the probe")
		away, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		defer cancel()
		err = errors.Join(err, wrap(p.clear(away), "remove the probe"))
	}()
	return p.run(ctx, n)
}

func (p *probe) run(ctx context.Context, n Finding) (Finding, error) {
	took := clock.Stopwatch()
	ctx, cancel := context.WithTimeoutCause(ctx, p.spec.Timeout, errProbeTime)
	defer cancel()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"making its port", p.makePort},
		{"making its volume", p.makeVolume},
		{"booting it", p.makeServer},
	} {
		p.tell(step.what)
		if err := step.do(ctx); err != nil {
			n.Detail = fmt.Sprintf("%s: %s", step.what, trove.MessageOf(err))
			return n, nil
		}
	}
	said, err := p.listen(ctx)
	switch {
	case err == nil:
		n.Level, n.Detail = Fine, fmt.Sprintf("a guest booted at %s and was answered by the enrolment endpoint, after %.0f s", p.port.Addresses[0].Address, took().Seconds())
	case said == "":
		n.Detail = fmt.Sprintf("%s; its console says nothing", strings.TrimSuffix(trove.MessageOf(err), "."))
	default:
		n.Detail = fmt.Sprintf("%s; the last words of its console:\n%s", strings.TrimSuffix(trove.MessageOf(err), "."), said)
	}
	return n, nil
}

var errProbeTime = trove.Errorf(trove.KindUnavailable, "The guest did not reach the enrolment endpoint in time.")

func (p *probe) makePort(ctx context.Context) error {
	var made struct {
		Port Port `json:"port"`
	}
	err := p.network.post(ctx, map[string]any{"port": map[string]any{
		"name": ProbeName, "description": Mark, "network_id": p.f.Networks[0].ID, "security_groups": []string{p.f.Groups[0].ID},
	}}, &made, "ports")
	if p.port = made.Port; err == nil && len(p.port.Addresses) == 0 {
		err = trove.Errorf(trove.KindConflict, "The port has no address.")
	}
	return err
}

func (p *probe) makeVolume(ctx context.Context) error {
	body := map[string]any{"name": ProbeName, "description": Mark, "size": 1}
	if p.spec.VolumeType != "" {
		body["volume_type"] = p.spec.VolumeType
	}
	if zone, _, _ := strings.Cut(p.spec.Zone, ":"); zone != "" && p.spec.InZone {
		body["availability_zone"] = zone
	}
	var made struct {
		Volume Named `json:"volume"`
	}
	if err := p.volume.post(ctx, map[string]any{"volume": body}, &made, "volumes"); err != nil {
		return err
	}
	p.disk = made.Volume
	for {
		status, err := p.status(ctx, p.volume, "volume", "volumes", p.disk.ID)
		if err != nil || status == "available" {
			return err
		}
		if strings.HasPrefix(status, "error") {
			return trove.Errorf(trove.KindUnavailable, "Cinder could not make the volume: its state is %s.", status)
		}
		if err := p.pause(ctx); err != nil {
			return err
		}
	}
}

// status returns the state of a server or volume.
func (p *probe) status(ctx context.Context, c rest, one string, path ...string) (string, error) {
	var found map[string]struct {
		Status string `json:"status"`
	}
	err := c.get(ctx, &found, nil, path...)
	return found[one].Status, err
}

const defaultPoll = 3 * time.Second

func (p *probe) pause(ctx context.Context) error {
	if clock.Sleep(ctx, cmp.Or(p.spec.Poll, defaultPoll)) == nil {
		return nil
	}
	if cause := context.Cause(ctx); trove.KindOf(cause) == trove.KindUnavailable {
		return cause // its own time
	}
	return trove.Wrap(trove.KindUnavailable, context.Cause(ctx), "The probe was stopped.")
}

func (p *probe) makeServer(ctx context.Context) error {
	flavor, err := p.flavor(ctx)
	if err != nil {
		return err
	}
	data, err := p.userData()
	if err != nil {
		return err
	}
	var made struct {
		Server Named `json:"server"`
	}
	server := map[string]any{
		"name": ProbeName, "imageRef": p.spec.Image, "flavorRef": flavor, "config_drive": true, "user_data": base64.StdEncoding.EncodeToString(data),
		"networks": []map[string]any{{"port": p.port.ID}},
		"block_device_mapping_v2": []map[string]any{
			{"uuid": p.spec.Image, "source_type": "image", "destination_type": "local", "boot_index": 0, "delete_on_termination": true},
			{"uuid": p.disk.ID, "source_type": "volume", "destination_type": "volume", "boot_index": -1, "delete_on_termination": false},
		},
	}
	if p.spec.Zone != "" {
		server["availability_zone"] = p.spec.Zone
	}
	err = p.compute.post(ctx, map[string]any{"server": server}, &made, "servers")
	p.server = made.Server
	return err
}

// flavor returns the id of the flavor: the named one, or the smallest of those that are wanted.
func (p *probe) flavor(ctx context.Context) (string, error) {
	all := slices.Clone(p.f.Flavors)
	if p.spec.Flavor != "" {
		var err error
		if all, err = flavorsOf(ctx, p.compute, map[string]bool{p.spec.Flavor: true}); err != nil {
			return "", err
		}
	}
	if len(all) == 0 {
		return "", trove.Errorf(trove.KindNotFound, "There is no flavor %s for the probe.", p.spec.Flavor)
	}
	return slices.MinFunc(all, func(a, b Flavor) int { return cmp.Compare(a.RAM, b.RAM) }).ID, nil
}

// userData is what any guest is told, with a token that the endpoint does not know: nothing of it can be used.
func (p *probe) userData() ([]byte, error) {
	at, why := (&planner{w: p.w, f: p.f}).controllers()
	if why != "" {
		return nil, trove.Errorf(trove.KindConflict, "%s.", why)
	}
	boot := bus.BootData{Instance: trove.NewID(), Engine: "mariadb", Token: "probe-" + trove.NewID(), CABundle: p.spec.CABundle}
	for _, c := range at {
		boot.EnrolURLs = append(boot.EnrolURLs, fmt.Sprintf("https://%s", netip.AddrPortFrom(c, uint16(p.spec.EnrolPort))))
	}
	s := p.f.Subnets[0]
	n := machinedata.Interface{
		MAC: p.port.MAC, Role: machinedata.RoleManagement, MTU: p.f.Networks[0].MTU,
		Addresses: []string{netip.PrefixFrom(p.port.Addresses[0].Address, s.CIDR.Bits()).String()},
	}
	for _, r := range s.Routes {
		n.Routes = append(n.Routes, machinedata.Route{To: r.Destination, Via: r.NextHop})
	}
	return machinedata.Encode(machinedata.Data{Boot: boot, DataVolume: p.disk.ID, Interfaces: []machinedata.Interface{n}})
}

// lastWords is how much of a console is shown.
const lastWords = 12

// listen waits for the guest's words on the console; without them it returns the last ones.
func (p *probe) listen(ctx context.Context) (said string, err error) {
	p.tell("waiting for its words on the console")
	for {
		status, err := p.status(ctx, p.compute, "server", "servers", p.server.ID)
		if err == nil && status == "ERROR" {
			return said, trove.Errorf(trove.KindUnavailable, "Nova could not boot the guest: %s", p.fault(ctx))
		}
		var console struct {
			Output string `json:"output"`
		}
		body := map[string]any{"os-getConsoleOutput": map[string]any{"length": 200}}
		if err := p.compute.post(ctx, body, &console, "servers", p.server.ID, "action"); err == nil && console.Output != "" {
			if strings.Contains(console.Output, bus.NotAccepted) {
				return "", nil
			}
			lines := strings.Split(strings.TrimSpace(printable(console.Output)), "\n")
			said = strings.Join(lines[max(0, len(lines)-lastWords):], "\n")
		}
		if err := p.pause(ctx); err != nil {
			return said, err
		}
	}
}

// printable leaves out what would move a terminal's cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}

func (p *probe) fault(ctx context.Context) string {
	var found struct {
		Server struct {
			Fault struct {
				Message string `json:"message"`
			} `json:"fault"`
		} `json:"server"`
	}
	if err := p.compute.get(ctx, &found, nil, "servers", p.server.ID); err != nil {
		return trove.MessageOf(err)
	}
	return found.Server.Fault.Message
}

// clear removes all that is called as a probe is, and waits until it is gone: the server first, which holds the others.
func (p *probe) clear(ctx context.Context) error {
	return errors.Join(
		p.away(ctx, p.compute, "servers", query("name", "^"+ProbeName+"$")),
		p.away(ctx, p.volume, "volumes", query("name", ProbeName)),
		p.away(ctx, p.network, "ports", query("name", ProbeName, "network_id", p.f.Networks[0].ID)))
}

// away removes what is found until nothing is. What is still in use, or being removed, is refused for a while.
func (p *probe) away(ctx context.Context, c rest, kind string, which url.Values) error {
	for {
		var found map[string]json.RawMessage
		if err := c.get(ctx, &found, which, kind); err != nil {
			return err
		}
		var all []Named
		if err := json.Unmarshal(found[kind], &all); err != nil {
			return fmt.Errorf("read the list of %s: %w", kind, err)
		}
		if len(all) == 0 {
			return nil
		}
		for _, n := range all {
			if err := c.delete(ctx, kind, n.ID); err != nil && !slices.Contains([]trove.Kind{trove.KindConflict, trove.KindBadRequest}, trove.KindOf(err)) {
				return err
			}
		}
		if err := p.pause(ctx); err != nil {
			return err
		}
	}
}
