package api

import (
	"encoding/json"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// appender is a body that writes itself. The list of instances is one: it is what clients ask for most, and reflection would be a third of
// its cost. TestAppendedLikeMarshalled holds it to what wire.InstanceList says.
type appender interface {
	appendJSON(b []byte) []byte
}

// instancePage is a page of summaries.
type instancePage struct {
	call     *call
	found    []trove.Instance
	versions map[string]trove.DatastoreVersion // of the instances, by id; the zero value where it is gone
	replicas map[string][]string
	next     []wire.Link
	now      time.Time
}

func (p *instancePage) appendJSON(b []byte) []byte {
	b = append(b, `{"instances":[`...)
	for n := range p.found {
		if n > 0 {
			b = append(b, ',')
		}
		v := p.versions[p.found[n].DatastoreVersionID]
		b = p.appendInstance(b, &p.found[n], &v)
	}
	b = append(b, ']')
	for _, key := range []string{"links", "instances_links"} {
		for _, l := range p.next {
			b = append(b, `,"`...)
			b = append(b, key...)
			b = append(b, `":[{"href":`...)
			b = appendString(b, l.Href)
			b = append(b, `,"rel":"next"}]`...)
		}
	}
	return append(b, '}')
}

func (p *instancePage) appendInstance(b []byte, i *trove.Instance, v *trove.DatastoreVersion) []byte {
	b = appendField(b, `{"id":`, i.ID)
	b = appendField(b, `,"name":`, i.Name)
	b = appendField(b, `,"status":`, i.Status(i.BackingUp))
	b = appendField(b, `,"operating_status":`, i.OperatingStatus(p.now))
	b = p.appendLinks(b, "instances", i.ID)
	b = appendField(b, `,"flavor":{"id":`, i.FlavorID)
	b = p.appendLinks(b, "flavors", i.FlavorID)
	if v.ID == "" {
		b = append(b, `},"datastore":{"type":null,"version":null}`...)
	} else {
		b = appendField(b, `},"datastore":{"type":`, v.DatastoreName)
		b = appendField(b, `,"version":`, v.Name)
		b = append(b, '}')
	}
	b = appendField(b, `,"region":`, i.Region)
	b = appendAccess(b, i)
	if p.call.admin {
		b = appendField(b, `,"tenant_id":`, i.ProjectID)
	}
	if i.VolumeSize > 0 {
		b = append(b, `,"volume":{"size":`...)
		b = strconv.AppendInt(b, int64(i.VolumeSize), 10)
		b = append(b, '}')
	}
	b = appendAddresses(b, i)
	b = p.appendReplicas(b, i)
	return append(b, '}')
}

func (p *instancePage) appendLinks(b []byte, resource, id string) []byte {
	b = append(b, `,"links":[{"href":"`...)
	b = appendPlain(b, p.call.base)
	b = append(b, versionPrefix+"/"...)
	b = appendPlain(b, p.call.project)
	b = append(b, '/')
	b = append(b, resource...)
	b = append(b, '/')
	b = appendPlain(b, id)
	b = append(b, `","rel":"self"},{"href":"`...)
	b = appendPlain(b, p.call.base)
	b = append(b, '/')
	b = append(b, resource...)
	b = append(b, '/')
	b = appendPlain(b, id)
	return append(b, `","rel":"bookmark"}]`...)
}

func appendAccess(b []byte, i *trove.Instance) []byte {
	a := viewAccess(i)
	if a.IsPublic == nil {
		return append(b, `,"access":{}`...)
	}
	b = append(b, `,"access":{"is_public":`...)
	b = strconv.AppendBool(b, *a.IsPublic)
	b = appendStrings(b, `,"allowed_cidrs":[`, a.AllowedCIDRs)
	return append(b, '}')
}

func appendAddresses(b []byte, i *trove.Instance) []byte {
	if i.Hostname != "" {
		return appendField(b, `,"hostname":`, i.Hostname)
	}
	if len(i.Addresses) == 0 {
		return b
	}
	for n, a := range i.Addresses {
		b = appendField(b, map[bool]string{true: `,"ip":[`, false: `,`}[n == 0], a.Address)
	}
	for n, a := range i.Addresses {
		b = appendField(b, map[bool]string{true: `],"addresses":[{"address":`, false: `,{"address":`}[n == 0], a.Address)
		b = appendField(b, `,"type":`, a.Type)
		if a.Network != "" {
			b = appendField(b, `,"network":`, a.Network)
		}
		if a.Port != 0 {
			b = append(b, `,"port":`...)
			b = strconv.AppendInt(b, int64(a.Port), 10)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func (p *instancePage) appendReplicas(b []byte, i *trove.Instance) []byte {
	if i.ReplicaOf != "" {
		b = appendField(b, `,"replica_of":{"id":`, i.ReplicaOf)
		b = p.appendLinks(b, "instances", i.ReplicaOf)
		b = append(b, '}')
	}
	replicas := p.replicas[i.ID]
	for n, id := range replicas {
		b = appendField(b, map[bool]string{true: `,"replicas":[{"id":`, false: `,{"id":`}[n == 0], id)
		b = p.appendLinks(b, "instances", id)
		b = append(b, '}')
	}
	if len(replicas) > 0 {
		b = append(b, ']')
	}
	return b
}

func appendStrings(b []byte, open string, list []string) []byte {
	for n, s := range list {
		if n == 0 {
			b = append(b, open...)
		} else {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	if len(list) > 0 {
		b = append(b, ']')
	}
	return b
}

func appendField(b []byte, key, value string) []byte {
	return appendString(append(b, key...), value)
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	return append(appendPlain(append(b, '"'), s), '"')
}

// appendPlain appends the inside of a JSON string: nearly always the text itself.
func appendPlain(b []byte, s string) []byte {
	for n := range len(s) {
		if c := s[n]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				return b // a string can always be marshalled
			}
			return append(b, quoted[1:len(quoted)-1]...)
		}
	}
	return append(b, s...)
}
