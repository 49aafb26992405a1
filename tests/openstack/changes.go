package openstack

import (
	"context"
	"net/url"
	"regexp"
	"time"
)

// Change is what happened to a server: its state, and what its guest would be given if it booted now.
type Change struct {
	ID, Name, Status string
	Task             *string `json:"OS-EXT-STS:task_state"`
	Updated          string
	UserData         string `json:"OS-EXT-SRV-ATTR:user_data"` // in base64
}

// Changes returns the servers whose names begin so and that have changed since then, deleted ones among them.
func (c *Cloud) Changes(ctx context.Context, prefix string, since time.Time) ([]Change, error) {
	query := url.Values{"all_tenants": {"1"}, "name": {"^" + regexp.QuoteMeta(prefix)}, "changes-since": {since.UTC().Format(time.RFC3339)}}
	var answer struct{ Servers []Change }
	err := c.get(ctx, "admin", "compute", "/servers/detail?"+query.Encode(), &answer)
	return answer.Servers, err
}

// Boots returns how often a server was started so far, whoever did it.
func (c *Cloud) Boots(ctx context.Context, server string) (int, error) {
	var answer struct {
		Actions []struct{ Action string } `json:"instanceActions"`
	}
	err := c.get(ctx, "admin", "compute", "/servers/"+server+"/os-instance-actions", &answer)
	n := 0
	for _, a := range answer.Actions {
		switch a.Action {
		case "create", "start", "reboot", "rebuild", "resize", "revertResize", "unshelve", "resume":
			n++
		}
	}
	return n, err
}
