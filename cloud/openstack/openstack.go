// Package openstack is the cloud of Nova servers, Cinder volumes, Neutron ports and Glance images.
//
// All that it makes is in the service project: a server, a data volume, a port on the management network, and on each of the tenant's networks a port with a
// security group of its own. Each has a name and metadata or tags of the instance's id and is found again by them, with queries whose answers do not grow with
// the cloud; nothing is remembered here but what networks and subnets look like. What takes several steps is carried on by the call that began it, made again:
// a server that is attached something, is started, is confirmed in its new size.
//
// Neither Nova nor Cinder nor Neutron has unique names. A thing that exists twice, after a reply that was lost or two workers at the same moment, is one thing for
// all callers: they choose by the same rule, and Ensure and Remove remove the surplus.
//
// A Provider may be used from several goroutines and by several processes.
package openstack

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// Config is what a Provider works with.
type Config struct {
	Session    *osclient.Session
	Deployment string // tells our things from those of other deployments in the same project
	Log        *slog.Logger

	ManagementNetwork       string // name or id
	ManagementSecurityGroup string // name or id, in the service project
	IsolateManagement       bool
	PublicNetwork           string // name or id; "": instances cannot be public
	DefaultNetwork          string // name or id; "": the only one that the caller can use
	Zone                    string // "": Nova chooses
	VolumeType              string // "": Cinder's default
	VolumeInZone            bool   // volumes are made in Cinder's zone of the name of the server's

	// How long things may take, for those who wait: see cloud.Patience.
	BootTimeout, VolumeTimeout, PortTimeout, ResizeTimeout time.Duration

	// Names gives instances host names; nil: they have none.
	Names cloud.Names
	// Look is how long callers let pass between two looks at something pending; 0: 500 ms.
	Look time.Duration
	// Wait is how long a removal waits until the thing is gone, before it is temporarily refused; 0: 30 s.
	Wait time.Duration
}

// Provider is cloud.Provider.
type Provider struct {
	cfg  Config
	nets nets

	mu    sync.Mutex
	locks map[string]*lock // of instances that a call works on
}

var (
	_ cloud.Provider     = (*Provider)(nil)
	_ cloud.Rebuilder    = (*Provider)(nil)
	_ cloud.Patient      = (*Provider)(nil)
	_ cloud.PublicAccess = (*Provider)(nil)
	_ cloud.NetworkOf    = (*Provider)(nil)
)

const (
	defaultWait = 30 * time.Second
	defaultLook = 500 * time.Millisecond
	firstLook   = 250 * time.Millisecond // after a removal, until it is looked again; it doubles
	slowestLook = 2 * time.Second
)

// New returns a Provider. It asks OpenStack nothing yet.
func New(cfg Config) (*Provider, error) {
	switch {
	case cfg.Session == nil, cfg.Log == nil, cfg.Deployment == "":
		return nil, errors.New("openstack: session, log and deployment are needed")
	case cfg.ManagementNetwork == "" || cfg.ManagementSecurityGroup == "":
		return nil, errors.New("openstack: management network and its security group are needed")
	}
	if cfg.Wait <= 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Look <= 0 {
		cfg.Look = defaultLook
	}
	return &Provider{cfg: cfg, locks: map[string]*lock{}}, nil
}

// Patience is cloud.Patient.Patience.
func (p *Provider) Patience() cloud.Patience {
	return cloud.Patience{
		Network: p.cfg.PortTimeout, Volume: p.cfg.VolumeTimeout, Boot: p.cfg.BootTimeout, Resize: p.cfg.ResizeTimeout, Look: p.cfg.Look, Sweep: sweep,
	}
}

// sweep is how long callers let pass at least between two lists of all that we have: each has a page of some KiB for every instance, which services take long to make.
const sweep = 5 * time.Minute

// EnsureName is cloud.Names.EnsureName.
func (p *Provider) EnsureName(ctx context.Context, instance string, addresses []trove.Address) (string, error) {
	if err := checkID(instance); err != nil || p.cfg.Names == nil {
		return "", err
	}
	return p.cfg.Names.EnsureName(ctx, instance, addresses)
}

// RemoveName is cloud.Names.RemoveName.
func (p *Provider) RemoveName(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil || p.cfg.Names == nil {
		return err
	}
	return p.cfg.Names.RemoveName(ctx, instance)
}

// Keys of metadata, and with a value behind a = the tags, of what we make.
const (
	keyInstance   = "trove_instance"
	keyDeployment = "trove_deployment"
	keyProject    = "trove_project"
	keyResize     = "trove_resize"   // the flavor that a server is to get
	keyPrevious   = "trove_previous" // the image that the guest sees beside its own
)

// keyPreviousDisk is the volume with a previous image that a server has or had.
const keyPreviousDisk = "trove_previous_volume"

func (p *Provider) metadata(instance, project string) map[string]string {
	return map[string]string{keyInstance: instance, keyDeployment: p.cfg.Deployment, keyProject: project}
}

func (p *Provider) tags(instance, project string) []string {
	all := []string{keyInstance + "=" + instance, p.deploymentTag()}
	if project != "" {
		all = append(all, keyProject+"="+project)
	}
	return all
}

func (p *Provider) deploymentTag() string { return keyDeployment + "=" + p.cfg.Deployment }

// nameOf is the name of an instance's server, data volume and security group.
func nameOf(instance string) string { return "trove-" + instance }

// lock is held by whoever changes things of an instance in this process.
type lock struct {
	mu    sync.Mutex
	users int
}

// lock keeps other calls of this process off the instance until the returned function is called.
func (p *Provider) lock(instance string) (unlock func()) {
	p.mu.Lock()
	l := p.locks[instance]
	if l == nil {
		l = &lock{}
		p.locks[instance] = l
	}
	l.users++
	p.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(p.locks, instance)
		}
	}
}

func checkID(instance string) error {
	if !trove.ValidID(instance) {
		return bad("%q is not an instance id.", instance)
	}
	return nil
}

func bad(format string, args ...any) error {
	return trove.Permanent(trove.Errorf(trove.KindBadRequest, format, args...))
}

// asBad says that the specification is wrong where OpenStack says that something in it is not there, or refuses it.
func asBad(err error) error {
	switch trove.KindOf(err) {
	case trove.KindNotFound, trove.KindBadRequest, trove.KindUnprocessable:
		return trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "%s", trove.MessageOf(err)))
	}
	return err
}

// passing says that a conflict ends by itself: OpenStack refuses what does not fit the state that a thing is in at the moment.
func passing(err error) error {
	if trove.KindOf(err) == trove.KindConflict {
		return trove.Wrap(trove.KindUnavailable, err, "%s", trove.MessageOf(err))
	}
	return err
}

// gone says that there is nothing any more where a removal met nothing.
func gone(err error) error {
	if trove.IsNotFound(err) {
		return nil
	}
	return err
}
