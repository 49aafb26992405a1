package api

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// chooseVersion resolves what a create says of the datastore: names or ids, with defaults.
func (s *server) chooseVersion(ctx context.Context, want object) (trove.DatastoreVersion, error) {
	var none trove.DatastoreVersion
	name := want.str("type")
	if name == "" {
		name = s.cfg.DefaultDatastore
	}
	if name == "" {
		return none, trove.Errorf(trove.KindBadRequest, "Please specify datastore. No default datastore is defined.")
	}
	ds, err := s.findDatastore(ctx, name)
	if err != nil {
		return none, err
	}
	ref, number := want.str("version"), want.str("version_number")
	if ref == "" && number == "" {
		ref = ds.DefaultVersionID
	}
	if ref == "" && number == "" {
		return none, trove.Errorf(trove.KindBadRequest, "Default version for datastore '%s' not found.", ds.Name)
	}
	v, err := s.findVersion(ctx, ds, ref, number)
	if err != nil {
		return none, err
	}
	if !v.Active {
		return none, trove.Errorf(trove.KindBadRequest, "Datastore version '%s' is not active.", v.Name)
	}
	return v, nil
}

func (s *server) findDatastore(ctx context.Context, ref string) (trove.Datastore, error) {
	ds, err := s.cfg.Store.Datastore(ctx, ref)
	if trove.IsNotFound(err) {
		return ds, trove.Errorf(trove.KindNotFound, "Datastore '%s' cannot be found.", ref)
	}
	if err != nil {
		return ds, fmt.Errorf("read the datastore: %w", err)
	}
	return ds, nil
}

// findVersion finds a version of a datastore by id or name, and by number where the name says too little. An unknown id is NotFound, an unknown
// name a BadRequest: so Trove has it.
func (s *server) findVersion(ctx context.Context, ds trove.Datastore, ref, number string) (trove.DatastoreVersion, error) {
	all, err := s.cfg.Store.DatastoreVersions(ctx, ds.ID)
	if err != nil {
		return trove.DatastoreVersion{}, fmt.Errorf("read the datastore versions: %w", err)
	}
	var found []trove.DatastoreVersion
	for _, v := range all {
		if (ref == "" || v.Name == ref || v.ID == ref) && (number == "" || v.Version == number) {
			found = append(found, v)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return trove.DatastoreVersion{}, trove.Errorf(trove.KindBadRequest,
			"Multiple versions of datastore '%s' match: please specify version_number.", ds.Name)
	case trove.ValidID(ref):
		return trove.DatastoreVersion{}, trove.Errorf(trove.KindNotFound, "DBDatastoreVersion Not Found")
	case number != "":
		ref = number
	}
	return trove.DatastoreVersion{}, trove.Errorf(trove.KindBadRequest, "Datastore version '%s' cannot be found.", ref)
}

// chooseFlavor finds a flavor by id or URL.
func (s *server) chooseFlavor(ctx context.Context, c *call, ref string, given bool, version *trove.DatastoreVersion) (trove.Flavor, error) {
	id := lastSegment(ref)
	if !given {
		id = "None"
	}
	f, err := s.cfg.Catalog.Flavor(ctx, c.rights(), id)
	if err != nil {
		return f, asBadRequest(fmt.Errorf("read the flavor: %w", err), "Resource %s cannot be found.", id)
	}
	if len(version.FlavorIDs) > 0 && !slices.Contains(version.FlavorIDs, f.ID) {
		return f, trove.Errorf(trove.KindBadRequest, "Flavor %s is not supported for datastore %s version %s", f.ID, version.DatastoreName, version.Name)
	}
	return f, nil
}

// chooseParts fills in volume, access and networks.
func (s *server) chooseParts(ctx context.Context, c *call, body object, version *trove.DatastoreVersion, i *trove.Instance) error {
	var err error
	if i.VolumeSize, i.VolumeType, err = s.chooseVolume(ctx, c, body, version); err != nil {
		return err
	}
	if i.Access, err = changeAccess(trove.Access{}, body.obj("access")); err != nil {
		return err
	}
	if err := s.checkPublic(ctx, i.Access); err != nil {
		return err
	}
	i.NICs, err = s.chooseNICs(ctx, c, body.list("nics"))
	return err
}

func (s *server) chooseVolume(ctx context.Context, c *call, body object, version *trove.DatastoreVersion) (size int, kind string, err error) {
	volume := body.obj("volume")
	if !version.Capabilities.Volume {
		if volume != nil {
			return 0, "", trove.Errorf(trove.KindNotImplemented, "Volume support is not enabled.")
		}
		return 0, "", nil
	}
	if volume == nil {
		return 0, "", trove.Errorf(trove.KindBadRequest, "Volume size was not specified.")
	}
	if size, err = s.checkSize(volume); err != nil {
		return 0, "", err
	}
	kind = volume.str("type")
	if kind == "" {
		return size, "", nil
	}
	types, err := s.cfg.Catalog.VolumeTypes(ctx, c.rights())
	if err != nil {
		return 0, "", fmt.Errorf("read the volume types: %w", err)
	}
	n := slices.IndexFunc(types, func(t cloud.VolumeType) bool { return t.ID == kind || t.Name == kind })
	if n < 0 {
		return 0, "", unseen("Volume type", kind, "type in volume")
	}
	if len(version.VolumeTypes) > 0 && !slices.Contains(version.VolumeTypes, types[n].ID) {
		return 0, "", trove.Errorf(trove.KindBadRequest, "Volume type %s is not supported for datastore %s version %s", kind,
			version.DatastoreName, version.Name)
	}
	return size, types[n].ID, nil
}

// maxSize is the largest volume that can be counted, in GiB: quota sums stay far from the integers' end.
const maxSize = 1 << 30

// checkSize reads the size of a volume, which the schema let through as a number or digits of any length.
func (s *server) checkSize(volume object) (int, error) {
	limit := s.cfg.MaxVolumeSize
	if limit <= 0 || limit > maxSize {
		limit = maxSize
	}
	size, ok := whole(volume["size"])
	if !ok || size > limit {
		return 0, trove.Errorf(trove.KindOverLimit, "Volume 'size' cannot exceed maximum of %d GB, %s cannot be accepted.", limit, volume.ref("size"))
	}
	return size, nil
}

// changeAccess applies what a request says of the access rules; what it leaves out stays.
func changeAccess(a trove.Access, want object) (trove.Access, error) {
	if p := want.boolPtr("is_public"); p != nil {
		a.IsPublic = *p
	}
	if !want.has("allowed_cidrs") {
		return a, nil
	}
	a.AllowedCIDRs = nil
	if len(want.strs("allowed_cidrs")) == 0 {
		return a, trove.Errorf(trove.KindBadRequest,
			"Validation error: instance['access']['allowed_cidrs'] is empty: name at least one network, 0.0.0.0/0 for everybody")
	}
	for n, cidr := range want.strs("allowed_cidrs") {
		if !isRange(cidr) {
			return a, trove.Errorf(trove.KindBadRequest, "Validation error: instance['access']['allowed_cidrs'][%d] %s is not a network of IPv4 or IPv6", n,
				pythonRepr(cidr))
		}
		a.AllowedCIDRs = append(a.AllowedCIDRs, cidr)
	}
	return a, nil
}

// isRange reports whether a text is an address range, or an address that stands for itself.
func isRange(text string) bool {
	if ip, err := netip.ParseAddr(text); err == nil {
		return !ip.Is4In6() && ip.Zone() == ""
	}
	p, err := netip.ParsePrefix(text)
	return err == nil && !p.Addr().Is4In6()
}

// checkPublic refuses an instance that is to be reached from outside where there is no way in.
func (s *server) checkPublic(ctx context.Context, a trove.Access) error {
	if p, ok := s.cfg.Catalog.(cloud.PublicAccess); ok && a.IsPublic {
		return p.PublicAccess(ctx)
	}
	return nil
}

// chooseNICs checks that the project may attach to the networks.
func (s *server) chooseNICs(ctx context.Context, c *call, want []object) ([]trove.NIC, error) {
	if len(want) == 0 {
		return s.defaultNICs(ctx, c)
	}
	networks, err := s.cfg.Catalog.TenantNetworks(ctx, c.rights())
	if err != nil {
		return nil, fmt.Errorf("read the networks: %w", err)
	}
	var out []trove.NIC
	for _, w := range want {
		nic := trove.NIC{NetworkID: w.str("network_id"), SubnetID: w.str("subnet_id"), IPAddress: w.str("ip_address")}
		if nic.NetworkID == "" {
			nic.NetworkID = w.str("net-id")
		}
		if err := checkNIC(&nic, networks); err != nil {
			return nil, err
		}
		out = append(out, nic)
	}
	return out, nil
}

// defaultNICs is what a request gets that names no network: where the cloud has no network for all, the caller's own.
func (s *server) defaultNICs(ctx context.Context, c *call) ([]trove.NIC, error) {
	d, ok := s.cfg.Catalog.(cloud.NetworkOf)
	if !ok {
		return nil, nil
	}
	id, err := d.NetworkOf(ctx, c.rights())
	if err != nil {
		return nil, fmt.Errorf("find the network of the project: %w", err)
	}
	return []trove.NIC{{NetworkID: id}}, nil
}

func checkNIC(nic *trove.NIC, networks []cloud.TenantNetwork) error {
	if nic.NetworkID == "" && nic.SubnetID == "" {
		return trove.Errorf(trove.KindBadRequest, "Instance network or subnet needs to be specified.")
	}
	if nic.IPAddress != "" && nic.SubnetID == "" {
		return trove.Errorf(trove.KindBadRequest, "Instance subnet needs to be specified.")
	}
	if nic.NetworkID != "" && !slices.ContainsFunc(networks, func(n cloud.TenantNetwork) bool { return n.ID == nic.NetworkID }) {
		return unseen("Network", nic.NetworkID, "network_id in nics")
	}
	if nic.SubnetID == "" {
		return nil
	}
	for _, n := range networks {
		for _, sub := range n.Subnets {
			if sub.ID != nic.SubnetID {
				continue
			}
			if nic.NetworkID != "" && nic.NetworkID != n.ID {
				return trove.Errorf(trove.KindBadRequest, "Subnet %s not found in the network %s.", nic.SubnetID, nic.NetworkID)
			}
			nic.NetworkID = n.ID
			return checkAddress(nic, sub)
		}
	}
	return unseen("Subnet", nic.SubnetID, "subnet_id in nics")
}

// unseen says that the caller cannot see what he names, whether it is there or not: our own rights are not asked.
func unseen(what, id, field string) error {
	return trove.Errorf(trove.KindNotFound, "%s %s (%s) cannot be found: name one that the project has, or that is shared with it.", what, id, field)
}

func checkAddress(nic *trove.NIC, sub cloud.Subnet) error {
	if nic.IPAddress == "" {
		return nil
	}
	addr, err := netip.ParseAddr(nic.IPAddress)
	if err != nil {
		return trove.Errorf(trove.KindBadRequest, "Validation error: instance['nics'][0]['ip_address'] %s is not an IPv4 address", pythonRepr(nic.IPAddress))
	}
	if prefix, err := netip.ParsePrefix(sub.CIDR); err == nil && !prefix.Contains(addr) {
		return trove.Errorf(trove.KindBadRequest, "Validation error: instance['nics'][0]['ip_address'] %s is not in the subnet %s",
			pythonRepr(nic.IPAddress), sub.CIDR)
	}
	return nil
}
