package bootstrap

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// Source says where the administrator's login is found.
type Source struct {
	Getenv func(string) string
	RC     string // file with lines "export OS_...=..."; "": none
	Cloud  string // of clouds.yaml; "": OS_CLOUD, or none
}

// Admin returns the login of an administrator: from a cloud of clouds.yaml, from a file of variables, or from the environment, in this order.
func Admin(s Source) (osclient.Config, error) {
	if s.RC != "" && s.Cloud != "" {
		return osclient.Config{}, trove.Errorf(trove.KindBadRequest, "Give --admin-rc or --os-cloud, not both.")
	}
	getenv := s.Getenv
	if s.RC != "" {
		vars, err := readRC(s.RC)
		if err != nil {
			return osclient.Config{}, err
		}
		getenv = func(name string) string { return vars[name] }
	}
	if cloud := cmp.Or(s.Cloud, getenv("OS_CLOUD")); cloud != "" {
		return fromCloud(s.Getenv, cloud)
	}
	return fromVariables(getenv)
}

func fromVariables(getenv func(string) string) (osclient.Config, error) {
	secret := trove.Secret(getenv("OS_PASSWORD"))
	c := osclient.Config{
		AuthURL: getenv("OS_AUTH_URL"), Username: getenv("OS_USERNAME"), UserDomain: getenv("OS_USER_DOMAIN_NAME"), UserDomainID: getenv("OS_USER_DOMAIN_ID"),
		Project: getenv("OS_PROJECT_NAME"), ProjectDomain: getenv("OS_PROJECT_DOMAIN_NAME"), ProjectDomainID: getenv("OS_PROJECT_DOMAIN_ID"),
		Region: getenv("OS_REGION_NAME"), Interface: cmp.Or(getenv("OS_INTERFACE"), "public"), CAFile: getenv("OS_CACERT"),
	}
	return complete(c, secret, "the variables OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME")
}

func complete(c osclient.Config, secret trove.Secret, from string) (osclient.Config, error) {
	if c.AuthURL == "" || c.Username == "" || secret == "" || c.Project == "" {
		return osclient.Config{}, trove.Errorf(trove.KindBadRequest,
			"Who asks? %s say not all of it. Name the administrator's file with --admin-rc, a cloud of clouds.yaml with --os-cloud, or set the variables; a password is needed.", from)
	}
	c.Interface = strings.TrimSuffix(c.Interface, "URL")
	c.Password = func() (trove.Secret, error) { return secret, nil }
	return c, nil
}

// readRC reads a file for a shell, as far as it says constants: what is computed in it cannot be known without running it.
func readRC(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The file of the administrator's variables cannot be read: %s.", path)
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(data)) {
		for _, w := range shellWords(strings.TrimSpace(line)) {
			name, value, found := strings.Cut(w.text, "=")
			if !found || !strings.HasPrefix(name, "OS_") {
				continue
			}
			if w.computed {
				return nil, trove.Errorf(trove.KindBadRequest, "%s: the value of %s is computed by a shell: run `. %s` and leave --admin-rc out.", path, name, path)
			}
			vars[name] = value
		}
	}
	return vars, nil
}

// shellWord is a word of a line. A computed one has a part that a shell would put something in place of.
type shellWord struct {
	text     string
	computed bool
}

// shellWords splits a line as a shell does, up to a comment.
func shellWords(line string) (words []shellWord) {
	var word strings.Builder
	started, computed, escaped, quote := false, false, false, rune(0)
	end := func() {
		if started {
			words = append(words, shellWord{word.String(), computed})
		}
		word.Reset()
		started, computed = false, false
	}
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, started = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, started = r, true
		case quote == 0 && r == '#' && !started:
			return words
		case quote == 0 && (r == ' ' || r == '\t' || r == ';'):
			end()
		default:
			computed = computed || quote != '\'' && (r == '$' || r == '`')
			word.WriteRune(r)
			started = true
		}
	}
	computed = computed || quote != 0 // it goes on in the next line
	end()
	return words
}

type cloudAuth struct {
	AuthURL           string       `yaml:"auth_url"`
	Username          string       `yaml:"username"`
	Password          trove.Secret `yaml:"password"`
	ProjectName       string       `yaml:"project_name"`
	UserDomainName    string       `yaml:"user_domain_name"`
	UserDomainID      string       `yaml:"user_domain_id"`
	ProjectDomainName string       `yaml:"project_domain_name"`
	ProjectDomainID   string       `yaml:"project_domain_id"`
}

type cloudsFile struct {
	Clouds map[string]struct {
		Auth      cloudAuth `yaml:"auth"`
		Region    string    `yaml:"region_name"`
		Interface string    `yaml:"interface"`
		CACert    string    `yaml:"cacert"`
	} `yaml:"clouds"`
}

// fromCloud reads clouds.yaml where openstacksdk looks for it, and a password that stands in secure.yaml beside it.
func fromCloud(getenv func(string) string, name string) (osclient.Config, error) {
	paths := []string{"clouds.yaml", filepath.Join(getenv("HOME"), ".config/openstack/clouds.yaml"), "/etc/openstack/clouds.yaml"}
	if p := getenv("OS_CLIENT_CONFIG_FILE"); p != "" {
		paths = []string{p}
	}
	for _, path := range paths {
		all, err := readClouds(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return osclient.Config{}, err
		}
		c, ok := all.Clouds[name]
		if !ok {
			return osclient.Config{}, trove.Errorf(trove.KindNotFound, "%s has no cloud %q.", path, name)
		}
		if c.Auth.Password == "" {
			if secure, err := readClouds(filepath.Join(filepath.Dir(path), "secure.yaml")); err == nil {
				c.Auth.Password = secure.Clouds[name].Auth.Password
			}
		}
		return complete(osclient.Config{
			AuthURL: c.Auth.AuthURL, Username: c.Auth.Username, UserDomain: c.Auth.UserDomainName, UserDomainID: c.Auth.UserDomainID,
			Project: c.Auth.ProjectName, ProjectDomain: c.Auth.ProjectDomainName, ProjectDomainID: c.Auth.ProjectDomainID,
			Region: c.Region, Interface: cmp.Or(c.Interface, "public"), CAFile: c.CACert,
		}, c.Auth.Password, fmt.Sprintf("the cloud %s of %s", name, path))
	}
	return osclient.Config{}, trove.Errorf(trove.KindNotFound, "No clouds.yaml was found that could have the cloud %q.", name)
}

func readClouds(path string) (cloudsFile, error) {
	var f cloudsFile
	data, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("read %s: %w", path, err)
	}
	if err := yaml.Unmarshal(data, &f); err != nil {
		return f, trove.Wrap(trove.KindBadRequest, err, "%s is not a valid clouds.yaml.", path)
	}
	return f, nil
}
