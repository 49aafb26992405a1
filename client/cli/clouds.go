package cli

import (
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client"
)

// cloudsFile is the part of clouds.yaml that is understood.
type cloudsFile struct {
	Clouds map[string]struct {
		Auth struct {
			AuthURL        string       `yaml:"auth_url"`
			Username       string       `yaml:"username"`
			Password       trove.Secret `yaml:"password"`
			ProjectName    string       `yaml:"project_name"`
			ProjectID      string       `yaml:"project_id"`
			UserDomainName string       `yaml:"user_domain_name"`
			Token          trove.Secret `yaml:"token"`
		} `yaml:"auth"`
		Region           string `yaml:"region_name"`
		Interface        string `yaml:"interface"`
		CACert           string `yaml:"cacert"`
		DatabaseEndpoint string `yaml:"database_endpoint_override"`
	} `yaml:"clouds"`
}

// cloudsPaths are where clouds.yaml is looked for, in openstacksdk's order.
func (a *app) cloudsPaths() []string {
	if p := a.env.Getenv("OS_CLIENT_CONFIG_FILE"); p != "" {
		return []string{p}
	}
	return []string{"clouds.yaml", filepath.Join(a.env.Getenv("HOME"), ".config/openstack/clouds.yaml"), "/etc/openstack/clouds.yaml"}
}

func (a *app) readCloud(name string, cfg *client.Config) error {
	for _, path := range a.cloudsPaths() {
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return trove.Wrap(trove.KindBadRequest, err, "%s cannot be read.", path)
		}
		var f cloudsFile
		if err := yaml.Unmarshal(data, &f); err != nil {
			return trove.Wrap(trove.KindBadRequest, err, "%s is not a valid clouds.yaml.", path)
		}
		c, ok := f.Clouds[name]
		if !ok {
			return trove.Errorf(trove.KindNotFound, "%s has no cloud %q.", path, name)
		}
		cfg.AuthURL, cfg.Username, cfg.Password = c.Auth.AuthURL, c.Auth.Username, c.Auth.Password
		cfg.Project, cfg.ProjectID, cfg.Domain = c.Auth.ProjectName, c.Auth.ProjectID, c.Auth.UserDomainName
		if c.CACert != "" {
			cfg.CACert = c.CACert
		}
		cfg.Region, cfg.Interface, cfg.Endpoint, cfg.Token = c.Region, c.Interface, c.DatabaseEndpoint, c.Auth.Token
		return nil
	}
	return trove.Errorf(trove.KindNotFound, "No clouds.yaml was found that could have the cloud %q.", name)
}
