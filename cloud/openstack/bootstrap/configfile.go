package bootstrap

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// Setting is a key of the service's configuration with its value.
type Setting struct{ Key, Value string }

// Settings are what the service has to know of what was made.
func Settings(w Wanted, f Found) []Setting {
	p := &planner{w: w, f: f}
	all := []Setting{{"cloud", "openstack"}, {"region", w.Region}}
	if at, _ := p.controllers(); len(at) > 0 {
		n := max(0, slices.IndexFunc(at, func(a netip.Addr) bool { return f.Host.has(a) }))
		all = append(all, Setting{"bus.address", at[n].String()})
	}
	for _, section := range []string{"identity", "openstack"} {
		if section == "identity" {
			all = append(all, Setting{"identity.driver", "keystone"})
		}
		for _, s := range []Setting{
			{"auth_url", w.AuthURL},
			{"ca_file", w.CAFile},
			{"username", w.User},
			{"password_file", cmp.Or(w.PasswordName, w.PasswordFile)},
			{"user_domain", w.UserDomain},
			{"project", w.Project},
			{"project_domain", w.ProjectDomain},
		} {
			if s.Value != "" {
				all = append(all, Setting{section + "." + s.Key, s.Value})
			}
		}
	}
	return append(all, Setting{"openstack.management_network", networkRef(w, f)}, Setting{"openstack.management_security_group", w.Group})
}

// networkRef is how the service finds the management network: it takes one of another project by its name only where that is shared or external.
func networkRef(w Wanted, f Found) string {
	if len(f.Networks) != 1 {
		return w.Network
	}
	if n := f.Networks[0]; n.ProjectID != "" && n.ProjectID != f.project() && !n.Shared && !n.External {
		return n.ID
	}
	return w.Network
}

// has reports whether the host has an address.
func (h HostNet) has(a netip.Addr) bool {
	return slices.ContainsFunc(h.Addresses, func(have HostAddress) bool { return have.Prefix.Addr() == a })
}

// config is the configuration file of the service.
func (p *planner) config() {
	file := p.w.ConfigFile
	if file == "" {
		return
	}
	var missing []Setting
	var names, other []string
	for _, s := range Settings(p.w, p.f) {
		switch have, known := p.f.Config[s.Key]; {
		case !known:
			missing = append(missing, s)
			names = append(names, s.Key)
		case have != s.Value:
			other = append(other, fmt.Sprintf("%s is %q and not %q", s.Key, have, s.Value))
		}
	}
	switch {
	case len(other) > 0:
		p.add(PartConfig, file, Refused, nil, "%s: correct the file, or what is asked for", strings.Join(other, ", "))
	case p.f.Config == nil:
		p.add(PartConfig, file, Make, WriteConfig{File: file, Settings: missing}, "%s", strings.Join(names, ", "))
	case len(missing) > 0:
		p.add(PartConfig, file, Change, WriteConfig{File: file, Settings: missing}, "it gets %s", strings.Join(names, ", "))
	default:
		p.add(PartConfig, file, There, nil, "it says all that the service has to know of this")
	}
}

// readConfig returns what stands in a configuration file, by the full names of the keys; nil if there is no file.
func readConfig(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var top map[string]any
	if err := yaml.Unmarshal(data, &top); err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "%s is not YAML.", file)
	}
	found := map[string]string{}
	for section, value := range top {
		below, ok := value.(map[string]any)
		if !ok {
			found[section] = fmt.Sprint(value)
			continue
		}
		for key, v := range below {
			found[section+"."+key] = fmt.Sprint(v)
		}
	}
	return found, nil
}

// WriteConfig adds settings to a configuration file, which keeps what it has, its comments too, and whose it is.
type WriteConfig struct {
	File     string
	Settings []Setting
}

func (a WriteConfig) apply(context.Context, *Bootstrap, *ids) error {
	data, err := os.ReadFile(a.File)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the configuration: %w", err)
	}
	text, err := WithSettings(data, a.Settings)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.File), 0o755); err != nil { //nolint:gosec // as directories below /etc are
		return fmt.Errorf("make the directory of the configuration: %w", err)
	}
	return atomicfile.Rewrite(a.File, text, 0o640)
}

// WithSettings returns the text of a configuration file with settings added.
func WithSettings(data []byte, settings []Setting) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The configuration is not YAML.")
	}
	if doc.Kind == 0 {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	for _, s := range settings {
		at := doc.Content[0]
		section, key, nested := strings.Cut(s.Key, ".")
		if nested {
			at = below(at, section)
		} else {
			key = section
		}
		if at.Kind != yaml.MappingNode {
			return nil, trove.Errorf(trove.KindBadRequest, "%s: there is something else than keys and values in the configuration.", section)
		}
		at.Content = append(at.Content, scalar(key), scalar(s.Value))
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(&doc), e.Close()); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return b.Bytes(), nil
}

func scalar(text string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(text)
	return n
}

// below returns the section of a name, which is made if it is not there.
func below(at *yaml.Node, name string) *yaml.Node {
	for n := 0; n+1 < len(at.Content); n += 2 {
		if at.Content[n].Value == name {
			if v := at.Content[n+1]; v.Tag == "!!null" {
				*v = yaml.Node{Kind: yaml.MappingNode}
			}
			return at.Content[n+1]
		}
	}
	section := &yaml.Node{Kind: yaml.MappingNode}
	at.Content = append(at.Content, scalar(name), section)
	return section
}
