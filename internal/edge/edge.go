// Package edge is what stands between clients and the handlers of HTTP: proxies whose word counts, browsers' cross-origin requests, certificates
// that are replaced while the service runs, files that take a process out of a load balancer, and writes that must get on.
//
// Each part is a handler around another one, or a small value; they know nothing of the API. All may be used from several goroutines.
package edge

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// From is how a client reached the service.
type From struct {
	Scheme string // http or https
	Host   string // with the port, if it said one
	Prefix string // what a proxy took off the front of the path: "" or "/something"
	Client netip.Addr
}

type fromKey struct{}

// Of returns how the client of a request reached the service: what trusted proxies say, else what the connection is.
func Of(r *http.Request) From {
	if f, ok := r.Context().Value(fromKey{}).(From); ok {
		return f
	}
	return direct(r)
}

func direct(r *http.Request) From {
	f := From{Scheme: "http", Host: r.Host, Client: peer(r)}
	if r.TLS != nil {
		f.Scheme = "https"
	}
	return f
}

// peer returns the other end of the connection, the zero address if it has none.
func peer(r *http.Request) netip.Addr {
	if p, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return p.Addr().Unmap().WithZone("")
	}
	ip, _ := netip.ParseAddr(r.RemoteAddr)
	return ip.Unmap().WithZone("")
}

// Base is how links to the service begin.
func (f From) Base() string { return f.Scheme + "://" + f.Host + f.Prefix }

// with returns the request as if the client had sent it here.
func (f From) with(r *http.Request) *http.Request {
	out := r.WithContext(context.WithValue(r.Context(), fromKey{}, f))
	out.Host = f.Host
	if f.Client != peer(r) {
		out.RemoteAddr = net.JoinHostPort(f.Client.String(), "0") // its port is not known
	}
	return out
}
