package openstack_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// needSecondImage makes one if one of the operations needs it.
func (w *walker) needSecondImage(kinds []string) {
	w.t.Helper()
	if slices.Contains(kinds, trove.OpRebuild) && w.images == nil {
		w.images = []string{w.things.image, w.secondImage()}
	}
}

// askRebuild gives the instance's datastore version the image that its server does not have, as an operator does with a new one, and asks for a rebuild.
func (w *walker) askRebuild(i wire.Instance) error {
	w.t.Helper()
	slices.Reverse(w.images)
	image, admin := w.images[0], w.admin()
	v, err := admin.DatastoreVersion(w.t.Context(), *i.Datastore.Type, *i.Datastore.Version)
	if err != nil {
		return err
	}
	if err := admin.UpdateVersion(w.t.Context(), v.ID, wire.VersionUpdate{Image: &image}); err != nil {
		return err
	}
	return admin.RebuildInstance(w.t.Context(), i.ID, image)
}

// rebuilt checks that the server has the image. One that was rebuilt keeps it when the operation is undone: the old one is gone.
func (w *walker) rebuilt(l leg, i wire.Instance) bool {
	w.t.Helper()
	servers, err := w.lab().Servers(w.t.Context(), "trove-"+i.ID)
	if err != nil || len(servers) != 1 || servers[0].Image.ID != w.images[0] {
		w.t.Errorf("%s: the server was to have the image %s: %+v %v", l.at, w.images[0], servers, err)
		return false
	}
	return true
}

// admin is the client of the administrator.
func (w *walker) admin() *client.Client {
	w.t.Helper()
	rc, err := openstack.ReadRC(filepath.Join(state, "adminrc"))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := client.New(client.Config{
		AuthURL: rc["OS_AUTH_URL"], Username: rc["OS_USERNAME"], Password: trove.Secret(rc["OS_PASSWORD"]), Project: rc["OS_PROJECT_NAME"],
		Endpoint: "http://" + w.service.listen + "/v1.0/" + w.lab().Project(rc["OS_PROJECT_NAME"]), HTTP: &http.Client{Timeout: time.Minute},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// secondImage is the lab's image once more.
func (w *walker) secondImage() string {
	w.t.Helper()
	admin, name := as(w.t, "admin"), "faults-second-"+unique
	id := admin.run(w.t, "image", "create", "--public", "--file", filepath.Join(state, "tiny.img"), "--disk-format", "raw", "--container-format", "bare",
		"--property", "os_shutdown_timeout=0", "-f", "value", "-c", "id", name)
	id = strings.TrimSpace(id)
	w.t.Cleanup(func() { admin.run(w.t, "image", "delete", id) })
	return id
}
