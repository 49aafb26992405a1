package edge

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwardedHeaders are what proxies say. Nothing behind this package sees them: it asks Of.
var forwardedHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Port"}

// Forwarded lets next see requests as the first proxy got them, as far as the proxies are trusted; what others say is dropped. Of several proxies in a
// row each has to be trusted: the client is the last address of the chain that is not. The header Forwarded (RFC 7239) goes before the others.
func Forwarded(trusted []netip.Prefix, next http.Handler) http.Handler {
	trusts := func(a netip.Addr) bool {
		return a.IsValid() && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := false
		for _, h := range forwardedHeaders {
			said = said || r.Header.Get(h) != ""
		}
		if !said {
			next.ServeHTTP(w, r)
			return
		}
		f := direct(r)
		if trusts(f.Client) {
			f.read(r.Header, trusts)
		}
		out := f.with(r)
		out.Header = r.Header.Clone()
		for _, h := range forwardedHeaders {
			out.Header.Del(h)
		}
		next.ServeHTTP(w, out)
	})
}

// hop is what one proxy says of the request that it got.
type hop struct{ from, proto, host string }

// read takes what the proxies say. Each hop that is believed was written by a trusted proxy: the last one by the peer itself.
func (f *From) read(h http.Header, trusts func(netip.Addr) bool) {
	hops := parseForwarded(h.Values("Forwarded"))
	if len(hops) == 0 {
		hops = oldHops(h)
	}
	for _, hop := range slices.Backward(hops) {
		if hop.proto == "http" || hop.proto == "https" {
			f.Scheme = hop.proto
		}
		if validHost(hop.host) {
			f.Host = hop.host
		}
		ip, ok := nodeAddress(hop.from)
		if !ok {
			break // "unknown", or hidden on purpose: who is beyond is not known
		}
		f.Client = ip
		if !trusts(ip) {
			break
		}
	}
	if p := strings.TrimSuffix(firstOf(h.Get("X-Forwarded-Prefix")), "/"); validPrefix(p) {
		f.Prefix = p
	}
}

// oldHops reads the X-Forwarded headers. Proxies append to the list of addresses; of the others most set one value, which then is the one of the
// whole way.
func oldHops(h http.Header) []hop {
	from := list(h.Values("X-Forwarded-For"))
	if len(from) == 0 {
		from = []string{""} // a proxy that does not tell addresses
	}
	hops := make([]hop, len(from))
	for n, address := range from {
		hops[n] = hop{from: address}
	}
	fill := func(values []string, set func(*hop, string)) {
		for n := range hops {
			at := len(values) - len(hops) + n // both lists end with what the nearest proxy wrote
			if len(values) > 0 {
				set(&hops[n], values[max(0, at)])
			}
		}
	}
	fill(list(h.Values("X-Forwarded-Proto")), func(h *hop, v string) { h.proto = strings.ToLower(v) })
	fill(list(h.Values("X-Forwarded-Host")), func(h *hop, v string) { h.host = v })
	return hops
}

func list(values []string) []string {
	var all []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}

func firstOf(value string) string {
	first, _, _ := strings.Cut(value, ",")
	return strings.TrimSpace(first)
}

// parseForwarded reads RFC 7239's header: for=192.0.2.43;proto=https;host="db.example", for="[2001:db8::1]:4711".
func parseForwarded(values []string) []hop {
	var hops []hop
	for _, value := range values {
		for _, element := range splitQuoted(value, ',') {
			var h hop
			for _, pair := range splitQuoted(element, ';') {
				key, v, _ := strings.Cut(strings.TrimSpace(pair), "=")
				v = unquote(v)
				switch strings.ToLower(key) {
				case "for":
					h.from = v
				case "proto":
					h.proto = strings.ToLower(v)
				case "host":
					h.host = v
				}
			}
			if h != (hop{}) {
				hops = append(hops, h)
			}
		}
	}
	return hops
}

// splitQuoted splits at a separator that is not inside quotes.
func splitQuoted(text string, separator byte) []string {
	var parts []string
	quoted, start := false, 0
	for n := 0; n < len(text); n++ {
		switch {
		case quoted && text[n] == '\\':
			n++
		case text[n] == '"':
			quoted = !quoted
		case !quoted && text[n] == separator:
			parts = append(parts, text[start:n])
			start = n + 1
		}
	}
	return append(parts, text[start:])
}

func unquote(text string) string {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return text
	}
	var b strings.Builder
	for n := 1; n < len(text)-1; n++ {
		if text[n] == '\\' && n+1 < len(text)-1 {
			n++
		}
		b.WriteByte(text[n])
	}
	return b.String()
}

// nodeAddress reads an address with or without a port; an IPv6 one with a port stands in brackets.
func nodeAddress(node string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(strings.Trim(node, "[]")); err == nil {
		return ip.Unmap().WithZone(""), true
	}
	if p, err := netip.ParseAddrPort(node); err == nil {
		return p.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func validHost(host string) bool {
	return host != "" && len(host) <= 255 && !strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_:[]", r)
	})
}

func validPrefix(p string) bool {
	return len(p) > 1 && len(p) <= 255 && p[0] == '/' && !strings.Contains(p, "//") && !strings.Contains(p, "..") &&
		!strings.ContainsFunc(p[1:], func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("./-_~", r)
		})
}
