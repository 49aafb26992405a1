package inmemory

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
)

// router gives instances that are public an address in a range of its own, as long as they are, and takes connections there to their databases.
type router struct {
	*fake.Cloud

	public netip.Prefix

	mu    sync.Mutex
	doors map[string]*door // by instance
}

// door is a public address.
type door struct {
	address   trove.Address
	listeners []net.Listener
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

func newRouter(c *fake.Cloud, cidr string) (*router, error) {
	public, err := netip.ParsePrefix(cidr)
	return &router{Cloud: c, public: public, doors: map[string]*door{}}, err
}

// EnsureNetwork is cloud.Networks.EnsureNetwork.
func (r *router) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	n, err := r.Cloud.EnsureNetwork(ctx, s)
	if err != nil {
		return n, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !s.Access.IsPublic:
		r.shut(s.Instance)
	case r.doors[s.Instance] == nil:
		d, err := r.open(ctx, n.Addresses[0], s.TCPPorts)
		if err != nil {
			return cloud.Network{}, err
		}
		r.doors[s.Instance] = d
	}
	return r.with(n), nil
}

// with adds the public address. The caller holds the lock.
func (r *router) with(n cloud.Network) cloud.Network {
	if d := r.doors[n.Instance]; d != nil {
		n.Addresses = append(n.Addresses, d.address)
	}
	return n
}

// FindNetwork is cloud.Networks.FindNetwork.
func (r *router) FindNetwork(ctx context.Context, instance string) (cloud.Network, error) {
	n, err := r.Cloud.FindNetwork(ctx, instance)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.with(n), err
}

// Networks is cloud.Networks.Networks.
func (r *router) Networks(ctx context.Context) ([]cloud.Network, error) {
	all, err := r.Cloud.Networks(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, n := range all {
		all[i] = r.with(n)
	}
	return all, err
}

// RemoveNetwork is cloud.Networks.RemoveNetwork.
func (r *router) RemoveNetwork(ctx context.Context, instance string) error {
	r.mu.Lock()
	r.shut(instance)
	r.mu.Unlock()
	return r.Cloud.RemoveNetwork(ctx, instance)
}

// shut ends a door, if there is one. The caller holds the lock.
func (r *router) shut(instance string) {
	if d := r.doors[instance]; d != nil {
		_ = d.close()
		delete(r.doors, instance)
	}
}

// close ends all doors.
func (r *router) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for instance := range r.doors {
		r.shut(instance)
	}
	return nil
}

// open listens on the public address that has the private one's place in its range.
func (r *router) open(ctx context.Context, private trove.Address, ports []int) (*door, error) {
	ip, err := netip.ParseAddr(private.Address)
	if err != nil {
		return nil, err
	}
	from, to := r.public.Addr().As4(), ip.As4()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &door{cancel: cancel, address: trove.Address{Address: netip.AddrFrom4([4]byte{from[0], from[1], to[2], to[3]}).String(), Type: "public"}}
	for _, p := range ports {
		port := strconv.Itoa(p)
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(d.address.Address, port))
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.listeners = append(d.listeners, l)
		d.running.Go(func() { d.take(ctx, l, net.JoinHostPort(private.Address, port)) })
	}
	return d, nil
}

// take carries connections to an address until the door is closed.
func (d *door) take(ctx context.Context, l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		d.running.Go(func() { carry(ctx, in, to) })
	}
}

// carry carries one connection until a side ends it, or the context does.
func carry(ctx context.Context, in net.Conn, to string) {
	defer func() { _ = in.Close() }()
	out, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	end := func() { _, _ = in.Close(), out.Close() }
	defer context.AfterFunc(ctx, end)()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(out, in)
		end()
	})
	_, _ = io.Copy(in, out)
	end()
	back.Wait()
}

// close ends the listeners and their connections.
func (d *door) close() error {
	var errs []error
	for _, l := range d.listeners {
		errs = append(errs, l.Close())
	}
	d.cancel()
	d.running.Wait()
	return errors.Join(errs...)
}
