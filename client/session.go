package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// session is a token and where it can be used. It is what the cache file holds.
type session struct {
	Token    string    `json:"token"`
	Expires  time.Time `json:"expires"`
	Endpoint string    `json:"endpoint"`
	Project  string    `json:"project"`
}

// margin is how long before its end a token is not used any more.
const margin = time.Minute

func (s session) usable(now time.Time) bool {
	return s.Token != "" && now.Add(margin).Before(s.Expires)
}

// authenticated returns a session: the one at hand, the cached one, or with fresh a new one in any case.
func (c *Client) authenticated(ctx context.Context, fresh bool) (session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.Token != "" && c.cfg.Endpoint != "" {
		return session{Token: c.cfg.Token.Reveal(), Endpoint: c.cfg.Endpoint}, nil
	}
	now := time.Now() //nolint:forbidigo // the server's clock decides; this only saves a request that would be refused
	if !fresh {
		if c.session.usable(now) {
			return c.session, nil
		}
		if s, ok := c.readCache(); ok && s.usable(now) {
			c.session = s
			return s, nil
		}
	}
	s, err := c.newSession(ctx)
	if err != nil {
		return session{}, err
	}
	c.session = s
	c.writeCache(s)
	return s, nil
}

type tokenAnswer struct {
	Token struct {
		Expires time.Time `json:"expires_at"`
		Project struct {
			ID string `json:"id"`
		} `json:"project"`
		Catalog []struct {
			Type      string `json:"type"`
			Endpoints []struct {
				Interface string `json:"interface"`
				Region    string `json:"region"`
				URL       string `json:"url"`
			} `json:"endpoints"`
		} `json:"catalog"`
	} `json:"token"`
}

func (c *Client) newSession(ctx context.Context) (session, error) {
	type object = map[string]any
	domain := object{"name": orDefault(c.cfg.Domain, "Default")}
	project := object{"name": c.cfg.Project, "domain": domain}
	if c.cfg.ProjectID != "" {
		project = object{"id": c.cfg.ProjectID}
	}
	identity := object{"methods": []string{"password"}, "password": object{"user": object{
		"name": c.cfg.Username, "domain": domain, "password": c.cfg.Password.Reveal(),
	}}}
	if c.cfg.Token != "" {
		identity = object{"methods": []string{"token"}, "token": object{"id": c.cfg.Token.Reveal()}}
	}
	body, err := encode(object{"auth": object{"identity": identity, "scope": object{"project": project}}})
	if err != nil {
		return session{}, err
	}
	var answer tokenAnswer
	header, err := c.roundTrip(ctx, http.MethodPost, strings.TrimSuffix(c.cfg.AuthURL, "/")+"/auth/tokens", http.Header{}, body, &answer)
	if err != nil {
		return session{}, err
	}
	s := session{
		Token: header.Get("X-Subject-Token"), Expires: answer.Token.Expires, Project: answer.Token.Project.ID,
		Endpoint: orDefault(c.cfg.Endpoint, c.endpoint(answer)),
	}
	if s.Endpoint == "" {
		return session{}, trove.Errorf(trove.KindNotFound, "The catalogue has no %s endpoint of type \"database\" in region %q.", orDefault(c.cfg.Interface, "public"), c.cfg.Region)
	}
	return s, nil
}

func (c *Client) endpoint(answer tokenAnswer) string {
	for _, service := range answer.Token.Catalog {
		if service.Type != "database" {
			continue
		}
		for _, e := range service.Endpoints {
			if e.Interface == orDefault(c.cfg.Interface, "public") && (c.cfg.Region == "" || c.cfg.Region == e.Region) {
				return e.URL
			}
		}
	}
	return ""
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// cacheFile names the file for this user, project and server. The password is part of the name's hash, so that a changed one is not hidden by an
// old token.
func (c *Client) cacheFile() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{
		c.cfg.AuthURL, c.cfg.Username, c.cfg.Password.Reveal(), c.cfg.Project, c.cfg.ProjectID, c.cfg.Domain, c.cfg.Region, c.cfg.Interface,
	}))
	return filepath.Join(c.cfg.Cache, "token-"+hex.EncodeToString(sum[:8])+".json")
}

func (c *Client) readCache() (session, bool) {
	if c.cfg.Cache == "" {
		return session{}, false
	}
	info, err := os.Stat(c.cacheFile())
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		return session{}, false // one that others could have written or read is not used
	}
	data, err := os.ReadFile(c.cacheFile())
	if err != nil {
		return session{}, false
	}
	var s session
	return s, json.Unmarshal(data, &s) == nil
}

// writeCache keeps the session. A cache that cannot be written costs time at the next call and nothing else.
func (c *Client) writeCache(s session) {
	if c.cfg.Cache == "" || os.MkdirAll(c.cfg.Cache, 0o700) != nil {
		return
	}
	data, err := json.Marshal(s)
	if err != nil {
		return
	}
	tmp, err := os.CreateTemp(c.cfg.Cache, ".token-*") // mode 0600
	if err != nil {
		return
	}
	_, werr := tmp.Write(data)
	if cerr := tmp.Close(); werr != nil || cerr != nil || os.Rename(tmp.Name(), c.cacheFile()) != nil {
		_ = os.Remove(tmp.Name())
	}
}
