package bootstrap

import (
	"fmt"
	"slices"
	"strings"
)

// flavors are the sizes that instances can have.
func (p *planner) flavors() {
	for _, want := range p.w.Flavors {
		want.Public = !p.w.PrivateFlavors
		size := fmt.Sprintf("%d MiB, %s, %d GiB for the root", want.RAM, some(want.VCPUs, "core"), want.Disk)
		n := slices.IndexFunc(p.f.Flavors, func(f Flavor) bool { return f.Name == want.Name })
		if n < 0 {
			p.add(PartFlavor, want.Name, Make, MakeFlavor{want}, "%s", size)
			if !want.Public {
				p.add(PartFlavor, want.Name, Change, AllowFlavor{Name: want.Name}, "the project %s may use it", p.w.Project)
			}
			continue
		}
		have := p.f.Flavors[n]
		if !have.Public && !slices.Contains(p.f.Access, have.ID) {
			p.add(PartFlavor, want.Name, Change, AllowFlavor{Name: want.Name}, "the project %s may use it", p.w.Project)
			continue
		}
		if have.RAM != want.RAM || have.VCPUs != want.VCPUs || have.Disk != want.Disk {
			size = fmt.Sprintf("it stays as it is: %d MiB, %s, %d GiB for the root, and not %s", have.RAM, some(have.VCPUs, "core"), have.Disk, size)
		}
		p.add(PartFlavor, want.Name, There, nil, "%s", size)
	}
}

// rulesPerGuest is how many rules the security group of a guest may have.
const rulesPerGuest = 20

// Needs returns the limits that the project's quotas must have at least, by service and resource.
func (w Wanted) Needs() []Quota {
	guests := w.Size.Guests() + w.Size.HeadRoom()
	cores, ram := 0, 0
	for _, f := range w.Flavors {
		cores, ram = max(cores, f.VCPUs), max(ram, f.RAM)
	}
	const previous = 4 // GiB: while a guest is upgraded it has the image before as a volume
	return []Quota{
		{Service: "compute", Resource: "instances", Limit: guests},
		{Service: "compute", Resource: "cores", Limit: guests * cores},
		{Service: "compute", Resource: "ram", Limit: guests * ram},
		{Service: "compute", Resource: "server_groups", Limit: w.Size.Instances + w.Size.HeadRoom()}, // one for each set, should all have a locality
		{Service: "compute", Resource: "server_group_members", Limit: 1 + w.Size.Replicas},
		{Service: "volume", Resource: "volumes", Limit: 2 * guests},
		{Service: "volume", Resource: "gigabytes", Limit: guests * (w.VolumeGiB + previous)},
		{Service: "volume", Resource: "snapshots", Limit: guests},
		{Service: "network", Resource: "port", Limit: 3*guests + 2*w.Size.Controllers},
		{Service: "network", Resource: "security_group", Limit: guests + 3},
		{Service: "network", Resource: "security_group_rule", Limit: rulesPerGuest * (guests + 3)},
		{Service: "network", Resource: "floatingip", Limit: guests},
	}
}

// quotas are raised and never lowered.
func (p *planner) quotas() {
	for _, service := range []string{"compute", "volume", "network"} {
		if len(p.f.Projects) == 0 {
			p.add(PartQuota, service+" of "+p.w.Project, Make, nil, "looked at when the project is there")
			continue
		}
		limits := map[string]int{}
		var raised, fine []string
		for _, need := range p.w.Needs() {
			n := slices.IndexFunc(p.f.Quotas, func(q Quota) bool { return q.Service == service && q.Resource == need.Resource })
			if need.Service != service || n < 0 {
				continue // the service does not limit it
			}
			if have := p.f.Quotas[n]; have.Limit >= 0 && have.Limit < need.Limit {
				limits[need.Resource] = need.Limit
				raised = append(raised, fmt.Sprintf("%s from %d to %d", need.Resource, have.Limit, need.Limit))
			} else {
				fine = append(fine, fmt.Sprintf("%s %s", need.Resource, limitText(have.Limit)))
			}
		}
		name := service + " of " + p.w.Project
		switch {
		case len(limits) > 0:
			p.add(PartQuota, name, Change, SetQuota{Service: service, Limits: limits}, "%s", strings.Join(raised, ", "))
		case len(fine) > 0:
			p.add(PartQuota, name, There, nil, "%s", strings.Join(fine, ", "))
		default:
			p.add(PartQuota, name, Yours, nil, "the catalogue has no service of this type, and instances need one")
		}
	}
}

func limitText(n int) string {
	if n < 0 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

// images are what guests boot from, and the datastore versions that name them.
func (p *planner) images() {
	for _, file := range p.w.Images {
		id, ok := p.image(file)
		p.older(file)
		if ok {
			p.version(file, id)
		}
	}
}

// image returns Glance's id, "" for one that is not there yet.
func (p *planner) image(file ImageFile) (id string, ok bool) {
	name := file.Name()
	size := fmt.Sprintf("%s %s, %d MB", file.Manifest.Datastore, file.Manifest.Version, file.Size/1_000_000)
	var have []Image
	for _, i := range p.f.Images {
		if i.Trove == file.Manifest.ID && !slices.Contains([]string{"killed", "deleted", "pending_delete"}, i.Status) {
			have = append(have, i)
		}
	}
	if len(have) == 0 {
		p.add(PartImage, name, Make, UploadImage{File: file}, "%s", size)
		return "", true
	}
	// Of several uploads the first one that can be used counts: two runs at the same time make two.
	n := max(0, slices.IndexFunc(have, func(i Image) bool { return i.Status == "active" }))
	switch i := have[n]; i.Status {
	case "active":
		p.add(PartImage, name, There, nil, "%s, %s%s", size, i.ID, hiddenText(i))
	case "deactivated":
		p.add(PartImage, name, There, nil, "%s, %s, deactivated by an administrator: no new instance can be made of it", size, i.ID)
	case "queued":
		p.add(PartImage, name, Change, UploadImage{File: file, ID: i.ID}, "%s: an upload that was cut off is repeated", size)
	default:
		p.add(PartImage, name, Yours, nil, "%s is %s: wait, or delete it", i.ID, i.Status)
		return i.ID, false
	}
	return have[n].ID, true
}

func hiddenText(i Image) string {
	if i.Hidden {
		return ", hidden"
	}
	return ""
}

// older are images of the same version that others take the place of: they are hidden and kept, because instances may have been made of them.
func (p *planner) older(file ImageFile) {
	for _, i := range p.f.Images {
		replaced := i.Datastore == file.Manifest.Datastore && i.Version == file.Manifest.Version && i.Trove != file.Manifest.ID
		wanted := slices.ContainsFunc(p.w.Images, func(f ImageFile) bool { return f.Manifest.ID == i.Trove })
		if replaced && !wanted && !i.Hidden {
			p.add(PartImage, i.Name, Change, HideImage{ID: i.ID}, "%s is hidden: a newer image takes its place, and instances of it go on", i.ID)
		}
	}
}

func (p *planner) version(file ImageFile, image string) {
	name := file.Manifest.Datastore + " " + file.Manifest.Version
	have, known := p.f.Versions[file.Manifest.ID]
	switch {
	case known && have == image && image != "":
		p.add(PartVersion, name, There, nil, "its image is %s", image)
	case known:
		p.add(PartVersion, name, Change, RegisterVersion{File: file, Image: image}, "it gets the image %s in place of %s", file.Name(), have)
	default:
		p.add(PartVersion, name, Make, RegisterVersion{File: file, Image: image}, "with the image %s", file.Name())
	}
}
