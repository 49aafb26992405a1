package bootstrap

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// MakeProject makes a project.
type MakeProject struct{ Name, DomainID string }

func (a MakeProject) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	var made struct {
		Project Named `json:"project"`
	}
	err = c.post(ctx, map[string]any{"project": map[string]any{"name": a.Name, "domain_id": a.DomainID, "description": Mark}}, &made, "projects")
	ids.project = made.Project.ID
	return err
}

// MakeUser makes a user with the password of a file, which is made if it is not there.
type MakeUser struct{ Name, DomainID, File string }

func (a MakeUser) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	secret, err := ensurePassword(a.File)
	if err != nil {
		return err
	}
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	var made struct {
		User Named `json:"user"`
	}
	err = c.post(ctx, map[string]any{"user": map[string]any{"name": a.Name, "domain_id": a.DomainID, "password": secret.Reveal(), "description": Mark}}, &made, "users")
	ids.user = made.User.ID
	return err
}

// SetPassword sets a user's password to that of a file, which is made if it is not there.
type SetPassword struct{ UserID, File string }

func (a SetPassword) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	secret, err := ensurePassword(a.File)
	if err != nil {
		return err
	}
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	return c.patch(ctx, map[string]any{"user": map[string]any{"password": secret.Reveal()}}, "users", a.UserID)
}

// GrantRole gives the user a role in the project.
type GrantRole struct{ RoleID string }

func (a GrantRole) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := errors.Join(need(ids.project, PartProject), need(ids.user, PartUser)); err != nil {
		return err
	}
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	return c.put(ctx, nil, "projects", ids.project, "users", ids.user, "roles", a.RoleID)
}

// MakeService makes a service of the catalogue.
type MakeService struct{ Name, Type string }

func (a MakeService) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	var made struct {
		Service Named `json:"service"`
	}
	err = c.post(ctx, map[string]any{"service": map[string]any{"name": a.Name, "type": a.Type, "description": "Databases"}}, &made, "services")
	ids.service = made.Service.ID
	return err
}

// MakeEndpoint makes an endpoint of the service.
type MakeEndpoint struct{ Endpoint Endpoint }

func (a MakeEndpoint) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := need(ids.service, PartEndpoint); err != nil {
		return err
	}
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	e := a.Endpoint
	e.ServiceID = ids.service
	return c.post(ctx, map[string]any{"endpoint": e}, nil, "endpoints")
}

// ChangeEndpoint gives an endpoint another URL and enables it.
type ChangeEndpoint struct{ Endpoint Endpoint }

func (a ChangeEndpoint) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	return c.patch(ctx, map[string]any{"endpoint": map[string]any{"url": a.Endpoint.URL, "enabled": true}}, "endpoints", a.Endpoint.ID)
}

// logsIn reports whether a password is the user's. It asks for a token without a project, so the answer does not depend on roles.
func logsIn(ctx context.Context, c rest, user string, secret password) (bool, error) {
	body := map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{"id": user, "password": secret.Reveal()}}},
		"scope":    "unscoped",
	}}
	_, err := c.client.Post(ctx, c.url(nil, "auth", "tokens"), body, nil, &gophercloud.RequestOpts{ //nolint:bodyclose // it is read and closed
		OkCodes: []int{http.StatusOK, http.StatusCreated}, OmitHeaders: []string{"X-Auth-Token"},
	})
	if osclient.Is(err, http.StatusUnauthorized) {
		return false, nil
	}
	return err == nil, err
}

// readPassword reads the password of the service user, where there is one.
func readPassword(path string) (password, PasswordState, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", NoPassword, nil
	}
	if err != nil {
		return "", NoPassword, fmt.Errorf("look for the password: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", PasswordOpen, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", NoPassword, fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", NoPassword, trove.Errorf(trove.KindBadRequest, "%s is empty: write the password into it, or remove it.", path)
	}
	return password(line), PasswordKnown, nil
}

// ensurePassword reads the password, or makes one: 256 random bits. The file is there before anybody is told of it, so that a password is never lost.
func ensurePassword(path string) (password, error) {
	secret, state, err := readPassword(path)
	if err != nil || state == PasswordKnown {
		return secret, err
	}
	if state == PasswordOpen {
		return "", trove.Errorf(trove.KindConflict, "Others can read %s: chmod 600.", path)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	secret = password(base64.RawURLEncoding.EncodeToString(random))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make the directory of the password: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the password: %w", err)
	}
	_, err = f.WriteString(secret.Reveal() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write the password: %w", err)
	}
	return secret, nil
}
