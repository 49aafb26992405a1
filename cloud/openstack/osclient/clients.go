package osclient

import (
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
)

// The services, by their type in the catalogue.
const (
	Compute     = "compute"
	Volume      = "block-storage"
	Network     = "network"
	Image       = "image"
	Identity    = "identity"
	ObjectStore = "object-store"
	KeyManager  = "key-manager"
	DNS         = "dns"
)

// service is what is to be known of one.
type service struct {
	name    string   // as people call it
	types   []string // in the catalogue, the newest first
	version string   // that an endpoint without one gets before the paths of resources; "": its endpoint has it
	streams bool     // bodies may be long: a deadline is for the answer to begin only
}

var services = map[string]service{
	Compute:     {name: "Nova", types: []string{"compute"}},
	Volume:      {name: "Cinder", types: []string{"block-storage", "volumev3", "volume"}},
	Network:     {name: "Neutron", types: []string{"network"}, version: "v2.0"},
	Image:       {name: "Glance", types: []string{"image"}, version: "v2", streams: true},
	Identity:    {name: "Keystone", types: []string{"identity"}, version: "v3"},
	ObjectStore: {name: "Swift", types: []string{"object-store"}, streams: true},
	KeyManager:  {name: "Barbican", types: []string{"key-manager"}, version: "v1"},
	DNS:         {name: "Designate", types: []string{"dns"}, version: "v2"},
}

// Compute returns a client of Nova. Whoever needs a microversion sets it in what is returned, which is the caller's own; the same holds for all of these.
func (s *Session) Compute() (*gophercloud.ServiceClient, error) { return s.client(Compute) }

// Volume returns a client of Cinder.
func (s *Session) Volume() (*gophercloud.ServiceClient, error) { return s.client(Volume) }

// Network returns a client of Neutron.
func (s *Session) Network() (*gophercloud.ServiceClient, error) { return s.client(Network) }

// Image returns a client of Glance.
func (s *Session) Image() (*gophercloud.ServiceClient, error) { return s.client(Image) }

// Identity returns a client of Keystone.
func (s *Session) Identity() (*gophercloud.ServiceClient, error) { return s.client(Identity) }

// ObjectStore returns a client of Swift.
func (s *Session) ObjectStore() (*gophercloud.ServiceClient, error) { return s.client(ObjectStore) }

// KeyManager returns a client of Barbican.
func (s *Session) KeyManager() (*gophercloud.ServiceClient, error) { return s.client(KeyManager) }

// DNS returns a client of Designate.
func (s *Session) DNS() (*gophercloud.ServiceClient, error) { return s.client(DNS) }

// client returns a client of a service; without an endpoint in the catalogue it is NotImplemented.
func (s *Session) client(kind string) (*gophercloud.ServiceClient, error) {
	known := services[kind]
	l := s.state.Load()
	url := l.endpoint(known.types, s.cfg.Interface, s.cfg.Region)
	if kind == Identity && url == "" {
		url = s.cfg.AuthURL
	}
	if url == "" {
		return nil, trove.Errorf(trove.KindNotImplemented, "The catalogue of Keystone has no %s endpoint of %s in the region %s.", s.cfg.Interface, known.name, s.cfg.Region)
	}
	if s.project != "" {
		url = strings.ReplaceAll(url, l.project, s.project)
	}
	c := &gophercloud.ServiceClient{
		ProviderClient: s.provider, Type: kind, Endpoint: strings.TrimSuffix(url, "/") + "/", MoreHeaders: map[string]string{serviceHeader: kind},
	}
	switch {
	case kind == Identity:
		c.Endpoint = versioned(url, known.version)
	case known.version != "":
		c.ResourceBase = versioned(url, known.version)
	}
	return c, nil
}

// endpoint returns the first endpoint of one of the types, in their order.
func (l *login) endpoint(types []string, availability, region string) string {
	for _, t := range types {
		for _, e := range l.catalog {
			if e.Type != t {
				continue
			}
			for _, p := range e.Endpoints {
				if p.Interface == availability && (region == "" || slices.Contains([]string{p.Region, p.RegionID}, region)) {
					return p.URL
				}
			}
		}
	}
	return ""
}
