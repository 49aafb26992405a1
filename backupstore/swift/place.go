package swift

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
)

// place is where the objects of a container are, and with whose rights.
type place struct {
	client    *gophercloud.ServiceClient
	container string
	project   string // whose account it is; "": the service's
	caller    bool   // with the rights of the caller
}

// piecesEnd ends the name of the container with the pieces of a container's large objects. No name of a container has a dot in it.
const piecesEnd = ".pieces"

// place finds it. In the service's account a container has the prefix in front of its name, and one of a project the project.
func (s *Store) place(ctx context.Context, c backupstore.Container) (place, error) {
	p := place{container: s.cfg.Prefix + c.Name}
	var err error
	token := backupstore.Caller(ctx, c.Project)
	switch {
	case c.Project == "" || c.Project == s.cfg.Session.ProjectID():
		p.client, err = s.cfg.Session.ObjectStore()
	case !s.cfg.Projects:
		p.container = s.cfg.Prefix + c.Project + "." + c.Name
		p.client, err = s.cfg.Session.ObjectStore()
	case token != "":
		p.container, p.project, p.caller = c.Name, c.Project, true
		p.client, err = s.cfg.Session.As(token, c.Project).ObjectStore()
	default:
		p.container, p.project = c.Name, c.Project
		if p.client, err = s.cfg.Session.ObjectStore(); err == nil {
			p.client.Endpoint = strings.ReplaceAll(p.client.Endpoint, s.cfg.Session.ProjectID(), c.Project)
		}
	}
	if err != nil {
		return place{}, fmt.Errorf("find the object store: %w", err)
	}
	return p, nil
}

func (p place) url(name string) string {
	u := p.client.Endpoint + url.PathEscape(p.container)
	if name == "" {
		return u
	}
	return u + "/" + escape(name)
}

// escape writes a name into a path.
func escape(name string) string {
	segments := strings.Split(name, "/")
	for i, each := range segments {
		segments[i] = url.PathEscape(each)
	}
	return strings.Join(segments, "/")
}

// pieces is the place of the pieces of large objects.
func (p place) pieces() place {
	p.container += piecesEnd
	return p
}

// Prepare implements backupstore.Preparer.
func (s *Store) Prepare(ctx context.Context, c backupstore.Container) error {
	if err := c.Check(); err != nil {
		return err
	}
	p, err := s.place(ctx, c)
	if err != nil || p.project == "" || !p.caller {
		return err
	}
	for _, each := range []place{p, p.pieces()} {
		if err := s.make(ctx, each); err != nil {
			return err
		}
	}
	return nil
}

// The rights on a container, which Swift keeps with it.
const (
	readers = "X-Container-Read"
	writers = "X-Container-Write"
)

// make makes a container. In the account of a project its rights get the service's user besides, who writes what the guests send.
func (s *Store) make(ctx context.Context, p place) error {
	headers := map[string]string{}
	if p.caller {
		now, err := s.head(ctx, p.client, p.url(""))
		if err != nil && !trove.IsNotFound(err) {
			return s.refused(p, err)
		}
		user := s.cfg.Session.ProjectID() + ":" + s.cfg.Session.UserID()
		for _, right := range []string{readers, writers} {
			entries := strings.FieldsFunc(now.Get(right), func(r rune) bool { return r == ',' || r == ' ' })
			if !slices.Contains(entries, user) {
				headers[right] = strings.Join(append(entries, user), ",")
			}
		}
		if err == nil && len(headers) == 0 {
			return nil
		}
	}
	_, err := s.done(p.client.Request(ctx, http.MethodPut, p.url(""), &gophercloud.RequestOpts{
		MoreHeaders: headers, OkCodes: []int{http.StatusCreated, http.StatusAccepted}, KeepResponseBody: true,
	}))
	return s.refused(p, err)
}

// refused says what to do where an account is not the service's.
func (*Store) refused(p place, err error) error {
	kind := trove.KindOf(err)
	denied := kind == trove.KindForbidden || kind == trove.KindUnauthorized || kind == trove.KindNotFound
	switch {
	case err == nil:
		return nil
	case p.project != "" && p.caller && denied:
		return trove.Wrap(kind, err, "Swift does not let you make the container %s in your project: you need a role that may, such as member.", p.container)
	case p.project != "" && denied:
		return trove.Wrap(trove.KindForbidden, err,
			"This service has no right for the container %s of project %s: somebody of the project must ask, so that it is made with his rights.", p.container, p.project)
	}
	return fmt.Errorf("make the container %s: %w", p.container, err)
}

// unseen reports whether an answer means that there is nothing: a container that nobody of the project has let the service see is none for it.
func (p place) unseen(err error) bool {
	return trove.IsNotFound(err) || p.project != "" && !p.caller && trove.KindOf(err) == trove.KindForbidden
}

// done closes the body of an answer.
func (*Store) done(resp *http.Response, err error) (http.Header, error) {
	if err != nil {
		return nil, osclient.Told(err)
	}
	return resp.Header, resp.Body.Close()
}

func (s *Store) head(ctx context.Context, client *gophercloud.ServiceClient, url string, more ...string) (http.Header, error) {
	o := &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK, http.StatusNoContent}, MoreHeaders: map[string]string{}, KeepResponseBody: true}
	for i := 0; i+1 < len(more); i += 2 {
		o.MoreHeaders[more[i]] = more[i+1]
	}
	return s.done(client.Request(ctx, http.MethodHead, url, o))
}

// pause waits before a write is tried again.
func pause(ctx context.Context, failed int) error {
	return clock.Sleep(ctx, min(firstPause<<failed, 5*time.Second))
}
