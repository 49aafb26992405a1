package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// Logs returns the logs of an instance.
func (c *Client) Logs(ctx context.Context, instance string) ([]wire.Log, error) {
	var out wire.LogList
	err := c.do(ctx, http.MethodGet, instancePath(instance, "log"), nil, &out)
	return out.Logs, err
}

// ActOnLog shows a log, or enables, disables, publishes or discards it first.
func (c *Client) ActOnLog(ctx context.Context, instance string, action wire.LogAction) (wire.Log, error) {
	var out wire.LogBody
	err := c.do(ctx, http.MethodPost, instancePath(instance, "log"), action, &out)
	return out.Log, err
}

// LogObjects returns what was published of a log, oldest first.
func (c *Client) LogObjects(ctx context.Context, instance, log string) ([]wire.LogObject, error) {
	var out wire.LogObjectList
	err := c.do(ctx, http.MethodGet, instancePath(instance, "log", segment(log), "objects"), nil, &out)
	return out.Objects, err
}

// ReadLog copies what was published of a log to w; lines 0 is all, else so many at the end. It is an error if the text broke off.
func (c *Client) ReadLog(ctx context.Context, instance, log string, lines int, w io.Writer) error {
	path := instancePath(instance, "log", segment(log), "contents")
	if lines > 0 {
		path += "?lines=" + strconv.Itoa(lines)
	}
	return c.text(ctx, path, w)
}

// text copies an answer that is a text to w.
func (c *Client) text(ctx context.Context, path string, w io.Writer) error {
	err := c.readText(ctx, path, w, false)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusUnauthorized && c.cfg.Password != "" {
		return c.readText(ctx, path, w, true)
	}
	return err
}

func (c *Client) readText(ctx context.Context, path string, w io.Writer, fresh bool) error {
	s, err := c.authenticated(ctx, fresh)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.Endpoint, "/")+path, http.NoBody)
	if err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The address %q of the server is not valid.", s.Endpoint)
	}
	req.Header.Set(wire.HeaderToken, s.Token)
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(req.URL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return unreachable(req.URL, err)
		}
		return faultOf(resp, data)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return trove.Wrap(trove.KindUnavailable, err, "The text broke off; read it again.")
	}
	return nil
}
