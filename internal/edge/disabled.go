package edge

import (
	"net"
	"net/http"
	"os"
)

// Disabled are the files whose presence takes the process out of a load balancer, as oslo.middleware's healthcheck has them.
type Disabled struct {
	Path   string         // "": none
	ByPort map[int]string // the same for one port
}

// Now reports whether the health check that came with r is to fail.
func (d Disabled) Now(r *http.Request) bool {
	if exists(d.Path) {
		return true
	}
	if len(d.ByPort) == 0 {
		return false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && exists(d.ByPort[local.Port])
}

func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return err == nil
}
