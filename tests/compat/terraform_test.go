package compat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/configurations"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/databases"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/instances"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/users"

	"github.com/trove-dbaas/trove/internal/clock"
)

// terraform does what the resources openstack_db_* of terraform's OpenStack provider do: the same calls in the same order, the same states that are waited
// for, and an end at any other one. It looks more often than the provider, so that it sees states that the provider would miss.
type terraform struct {
	suite *suite
	c     *gophercloud.ServiceClient
}

const (
	terraformPoll     = 5 * time.Millisecond
	terraformNotFound = 20 // looks without a thing after which the provider gives up
)

// wait is the provider's wait for a state. look returns "" while there is nothing to see.
func (terraform) wait(ctx context.Context, pending, target []string, look func() (string, error)) error {
	missing := 0
	for end := time.Now().Add(patience); time.Now().Before(end); {
		state, err := look()
		if err != nil {
			return err
		}
		if state == "" {
			missing++
		}
		switch {
		case missing > terraformNotFound:
			return fmt.Errorf("couldn't find resource (%d retries)", missing)
		case slices.Contains(target, state):
			return nil
		case state != "" && !slices.Contains(pending, state):
			return fmt.Errorf("unexpected state '%s', wanted target %v", state, target)
		}
		if err := clock.Sleep(ctx, terraformPoll); err != nil {
			return err
		}
	}
	return errors.New("timeout while waiting for state")
}

// instance is what the provider asks while it waits for an instance.
func (tf terraform) instance(ctx context.Context) (string, error) {
	i, err := instances.Get(ctx, tf.c, tf.suite.known["one"]).Extract()
	if gophercloud.ResponseCodeIs(err, 404) {
		return "DELETED", nil
	}
	if err != nil {
		return "", err
	}
	return i.Status, nil
}

// listedDatabase returns "ACTIVE" when the database is in the list.
func (tf terraform) listedDatabase(ctx context.Context, name string) (string, error) {
	all, err := listed(ctx, databases.List(tf.c, tf.suite.known["one"]), databases.ExtractDBs)
	if err == nil && slices.ContainsFunc(all, func(d databases.Database) bool { return d.Name == name }) {
		return "ACTIVE", nil
	}
	return "", err
}

func (tf terraform) listedUser(ctx context.Context, name string) (string, error) {
	all, err := listed(ctx, users.List(tf.c, tf.suite.known["one"]), users.ExtractUsers)
	if err == nil && slices.ContainsFunc(all, func(u users.User) bool { return u.Name == name }) {
		return "ACTIVE", nil
	}
	return "", err
}

func (tf terraform) configuration(ctx context.Context, id string) (string, error) {
	_, err := configurations.Get(ctx, tf.c, id).Extract()
	if gophercloud.ResponseCodeIs(err, 404) {
		return "DELETED", nil
	}
	return "ACTIVE", err
}

func (tf terraform) createConfiguration(ctx context.Context, name string) (any, error) {
	c, err := configurations.Create(ctx, tf.c, configurations.CreateOpts{
		Name: name, Description: "from terraform", Values: map[string]any{tf.suite.known["parameter"]: 120},
		Datastore: &configurations.DatastoreOpts{Type: tf.suite.known["datastore"], Version: tf.suite.known["version"]},
	}).Extract()
	if err != nil {
		return nil, err
	}
	tf.suite.known[name] = c.ID
	return done(tf.wait(ctx, []string{"BUILD"}, []string{"ACTIVE"}, func() (string, error) { return tf.configuration(ctx, c.ID) }))
}

func (tf terraform) deleteConfiguration(ctx context.Context, name string) (any, error) {
	id := tf.suite.known[name]
	if err := configurations.Delete(ctx, tf.c, id).ExtractErr(); err != nil {
		return nil, err
	}
	return done(tf.wait(ctx, []string{"ACTIVE", "SHUTOFF"}, []string{"DELETED"}, func() (string, error) { return tf.configuration(ctx, id) }))
}

func (tf terraform) createInstance(ctx context.Context) (any, error) {
	i, err := instances.Create(ctx, tf.c, instances.CreateOpts{
		Name: "tf-1", FlavorRef: "1", Size: 1, Datastore: &instances.DatastoreOpts{Type: tf.suite.known["datastore"], Version: tf.suite.known["version"]},
	}).Extract()
	if err != nil {
		return nil, err
	}
	tf.suite.known["one"] = i.ID
	return done(tf.wait(ctx, []string{"BUILD"}, []string{"ACTIVE", "HEALTHY"}, func() (string, error) { return tf.instance(ctx) }))
}

func (tf terraform) deleteInstance(ctx context.Context) (any, error) {
	if err := instances.Delete(ctx, tf.c, tf.suite.known["one"]).ExtractErr(); err != nil {
		return nil, err
	}
	return done(tf.wait(ctx, []string{"ACTIVE", "SHUTDOWN"}, []string{"DELETED"}, func() (string, error) { return tf.instance(ctx) }))
}

func (tf terraform) createDatabase(ctx context.Context) (any, error) {
	if state, err := tf.listedDatabase(ctx, "shop"); err != nil || state != "" {
		return nil, fmt.Errorf("the database is there before: %w", err)
	}
	if err := databases.Create(ctx, tf.c, tf.suite.known["one"], databases.BatchCreateOpts{{Name: "shop"}}).ExtractErr(); err != nil {
		return nil, err
	}
	return done(tf.wait(ctx, []string{"BUILD"}, []string{"ACTIVE"}, func() (string, error) { return tf.listedDatabase(ctx, "shop") }))
}

func (tf terraform) createUser(ctx context.Context) (any, error) {
	err := users.Create(ctx, tf.c, tf.suite.known["one"], users.BatchCreateOpts{{
		Name: "anna", Password: tf.suite.known["password"], Host: "%", Databases: databases.BatchCreateOpts{{Name: "shop"}},
	}}).ExtractErr()
	if err != nil {
		return nil, err
	}
	return done(tf.wait(ctx, []string{"BUILD"}, []string{"ACTIVE"}, func() (string, error) { return tf.listedUser(ctx, "anna") }))
}

// changeConfiguration is the update of an instance: a detach and an attach back to back.
func (tf terraform) changeConfiguration(ctx context.Context) (any, error) {
	id := tf.suite.known["one"]
	return done(errors.Join(
		instances.DetachConfigurationGroup(ctx, tf.c, id).ExtractErr(),
		instances.AttachConfigurationGroup(ctx, tf.c, id, tf.suite.known["tf-d"]).ExtractErr()))
}

// TestTrap14TerraformPolls applies a plan with all resources, changes and destroys it (traps 3, 6, 7 and 14 of the reference).
func TestTrap14TerraformPolls(t *testing.T) {
	s := startServer(t)
	tf := terraform{newSuite(s, readExpectations(t), "terraform", "terraform openstack_db_* (its calls and waits)", "tf"), s.client(t, s.member)}
	one := func() string { return tf.suite.known["one"] }
	tf.suite.runSteps(t, []step{
		{row{cmd: "openstack_db_configuration_v1 create"}, func(ctx context.Context) (any, error) { return tf.createConfiguration(ctx, "tf-c") }},
		{row{cmd: "openstack_db_instance_v1 create"}, tf.createInstance},
		// At once after ACTIVE, and without another try.
		{row{cmd: "openstack_db_instance_v1 create: configuration_id"}, func(ctx context.Context) (any, error) {
			return done(instances.AttachConfigurationGroup(ctx, tf.c, one(), tf.suite.known["tf-c"]).ExtractErr())
		}},
		{row{cmd: "openstack_db_database_v1 create"}, tf.createDatabase},
		{row{cmd: "openstack_db_user_v1 create"}, tf.createUser},
		{
			row{cmd: "openstack_db_instance_v1 read", prints: `"addresses":\["[0-9.]+"\],"datastore":"$datastore","flavor_id":"1"`},
			func(ctx context.Context) (any, error) {
				i, err := instances.Get(ctx, tf.c, one()).Extract()
				if err != nil {
					return nil, err
				}
				return map[string]any{"addresses": i.IP, "datastore": i.Datastore.Type, "flavor_id": i.Flavor.ID}, nil
			},
		},
		{row{cmd: "openstack_db_configuration_v1 create another"}, func(ctx context.Context) (any, error) { return tf.createConfiguration(ctx, "tf-d") }},
		{row{cmd: "openstack_db_instance_v1 update configuration_id"}, tf.changeConfiguration},
		{row{cmd: "openstack_db_user_v1 delete"}, func(ctx context.Context) (any, error) {
			return done(users.Delete(ctx, tf.c, one(), "anna").ExtractErr())
		}},
		{row{cmd: "openstack_db_database_v1 delete"}, func(ctx context.Context) (any, error) {
			return done(databases.Delete(ctx, tf.c, one(), "shop").ExtractErr())
		}},
		{row{cmd: "openstack_db_configuration_v1 delete of the first"}, func(ctx context.Context) (any, error) { return tf.deleteConfiguration(ctx, "tf-c") }},
		{row{cmd: "openstack_db_instance_v1 delete"}, tf.deleteInstance},
		{row{cmd: "openstack_db_configuration_v1 delete"}, func(ctx context.Context) (any, error) { return tf.deleteConfiguration(ctx, "tf-d") }},
	})
	tf.suite.report(t)
}
