package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/recordsets"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/zones"
	"github.com/gophercloud/gophercloud/v2/pagination"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// Names are host names in a zone of Designate: <instance id>.<zone>, with a record set for addresses of IPv4 and one for those of IPv6. Each has the instance in its description;
// one of another description is somebody else's and stays as it is.
type Names struct {
	session *osclient.Session
	zone    string // with the dot at its end

	mu sync.Mutex
	id string // of the zone; "": not asked for yet
}

var _ cloud.Names = (*Names)(nil)

// NewNames returns names in a zone of the service project. It asks OpenStack nothing yet.
func NewNames(s *osclient.Session, zone string) (*Names, error) {
	if s == nil || strings.Trim(zone, ".") == "" {
		return nil, errors.New("openstack: names need a session and a zone")
	}
	return &Names{session: s, zone: strings.Trim(zone, ".") + "."}, nil
}

// nameTTL is how long others may remember a name, in seconds: addresses of an instance do not change, and a removed name should go soon.
const nameTTL = 300

// families are the types of record sets.
var families = []string{"A", "AAAA"}

// EnsureName is cloud.Names.EnsureName. The name has the public addresses of the instance, if it has any, else all.
func (n *Names) EnsureName(ctx context.Context, instance string, addresses []trove.Address) (string, error) {
	if err := checkID(instance); err != nil {
		return "", err
	}
	client, zone, err := n.open(ctx)
	if err != nil {
		return "", err
	}
	wanted := recordsOf(addresses)
	if len(wanted["A"])+len(wanted["AAAA"]) == 0 {
		return "", trove.Errorf(trove.KindBadRequest, "Instance %s has no address that could get a name.", instance)
	}
	name := instance + "." + n.zone
	for _, family := range families {
		if err := n.ensure(ctx, client, zone, instance, family, wanted[family]); err != nil {
			return "", fmt.Errorf("name instance %s: %w", instance, err)
		}
	}
	return strings.TrimSuffix(name, "."), nil
}

// recordsOf sorts addresses by the type of their records.
func recordsOf(addresses []trove.Address) map[string][]string {
	public := slices.ContainsFunc(addresses, func(a trove.Address) bool { return a.Type == "public" })
	all := map[string][]string{}
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a.Address)
		if err != nil || public && a.Type != "public" {
			continue
		}
		family := "AAAA"
		if ip.Is4() {
			family = "A"
		}
		if !slices.Contains(all[family], a.Address) {
			all[family] = append(all[family], a.Address)
		}
	}
	for _, each := range all {
		slices.Sort(each)
	}
	return all
}

func describeName(instance string) string { return "instance " + instance + " of Trove" }

// ensure makes one record set be as wanted; without records it is removed.
func (n *Names) ensure(ctx context.Context, client *gophercloud.ServiceClient, zone, instance, family string, records []string) error {
	if len(records) == 0 {
		return n.remove(ctx, client, zone, instance, family)
	}
	for range 2 { // of two who make it at once one finds that of the other
		there, err := n.find(ctx, client, zone, instance, family)
		if err != nil {
			return err
		}
		switch {
		case there == nil:
			_, err := recordsets.Create(ctx, client, zone, recordsets.CreateOpts{
				Name: instance + "." + n.zone, Type: family, Records: records, TTL: nameTTL, Description: describeName(instance),
			}).Extract()
			if trove.KindOf(err) == trove.KindConflict {
				continue
			}
			return told(err)
		case there.Description != describeName(instance):
			return trove.Errorf(trove.KindConflict, "The zone %s has a record set %s that is not ours.", n.zone, there.Name)
		}
		slices.Sort(there.Records)
		if slices.Equal(there.Records, records) {
			return nil
		}
		_, err = recordsets.Update(ctx, client, zone, there.ID, recordsets.UpdateOpts{Records: records}).Extract()
		return told(err)
	}
	return trove.Errorf(trove.KindUnavailable, "Designate says that a record set of instance %s is there, and does not show it.", instance)
}

// RemoveName is cloud.Names.RemoveName.
func (n *Names) RemoveName(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	client, zone, err := n.open(ctx)
	if trove.IsNotFound(err) {
		return nil // with the zone its names are gone
	}
	if err != nil {
		return err
	}
	for _, family := range families {
		if err := n.remove(ctx, client, zone, instance, family); err != nil {
			return fmt.Errorf("remove the name of instance %s: %w", instance, err)
		}
	}
	return nil
}

func (n *Names) remove(ctx context.Context, client *gophercloud.ServiceClient, zone, instance, family string) error {
	there, err := n.find(ctx, client, zone, instance, family)
	if err != nil || there == nil || there.Description != describeName(instance) {
		return err
	}
	if err := recordsets.Delete(ctx, client, zone, there.ID).ExtractErr(); err != nil && !trove.IsNotFound(err) {
		return told(err)
	}
	return nil
}

// find returns the record set of a name and a type, nil if there is none.
func (n *Names) find(ctx context.Context, client *gophercloud.ServiceClient, zone, instance, family string) (*recordsets.RecordSet, error) {
	name := instance + "." + n.zone
	var found *recordsets.RecordSet
	err := recordsets.ListByZone(client, zone, recordsets.ListOpts{Name: name, Type: family}).EachPage(ctx, func(_ context.Context, p pagination.Page) (bool, error) {
		all, err := recordsets.ExtractRecordSets(p)
		for _, r := range all {
			if r.Name == name && r.Type == family {
				found = &r
				return false, nil
			}
		}
		return true, err
	})
	if trove.IsNotFound(err) {
		n.forget(zone)
	}
	return found, told(err)
}

// open returns a client and the zone's id.
func (n *Names) open(ctx context.Context) (*gophercloud.ServiceClient, string, error) {
	client, err := n.session.DNS()
	if err != nil {
		return nil, "", err
	}
	n.mu.Lock()
	id := n.id
	n.mu.Unlock()
	if id != "" {
		return client, id, nil
	}
	err = zones.List(client, zones.ListOpts{Name: n.zone}).EachPage(ctx, func(_ context.Context, p pagination.Page) (bool, error) {
		all, err := zones.ExtractZones(p)
		for _, z := range all {
			if z.Name == n.zone {
				id = z.ID
				return false, nil
			}
		}
		return true, err
	})
	if err != nil {
		return nil, "", told(err)
	}
	if id == "" {
		return nil, "", trove.Errorf(trove.KindNotFound, "Designate has no zone %s in the service project: make it, or change openstack.dns_zone.", n.zone)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.id = id
	return client, id, nil
}

// forget has the zone asked for again, which was made anew.
func (n *Names) forget(zone string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.id == zone {
		n.id = ""
	}
}

// told is an error in our words, nil for none.
func told(err error) error {
	if err == nil {
		return nil
	}
	return osclient.Told(err)
}
