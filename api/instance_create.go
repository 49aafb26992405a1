package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// createInstance takes the quota, writes the instance and enqueues its creation in one transaction: all of it is there, or nothing.
func (s *server) createInstance(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("instance")
	if err := s.refuseUnavailable(ctx, c, body); err != nil {
		return nil, err
	}
	version, err := s.chooseVersion(ctx, body.obj("datastore"))
	if err != nil {
		return nil, err
	}
	flavor, err := s.chooseFlavor(ctx, c, body.ref("flavorRef"), body.has("flavorRef"), &version)
	if err != nil {
		return nil, err
	}
	i := trove.Instance{
		ID: trove.NewID(), ProjectID: c.project, Name: body.str("name"), Created: s.cfg.Clock.Now(), Task: trove.TaskBuilding,
		DatastoreVersionID: version.ID, FlavorID: flavor.ID, Region: s.cfg.Region, AvailabilityZone: body.str("availability_zone"),
		Locality: body.str("locality"),
	}
	i.Updated = i.Created
	if err := s.chooseParts(ctx, c, body, &version, &i); err != nil {
		return nil, err
	}
	if i.ConfigurationID, err = s.chooseGroup(ctx, c, lastSegment(body.str("configuration")), version.ID); err != nil {
		return nil, err
	}
	input, err := s.createInput(ctx, c, body, &version, &i)
	if err != nil {
		return nil, err
	}
	input.Flavor = flavor
	i.Held = map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: flavor.RAM}
	if i.VolumeSize > 0 {
		i.Held[trove.QuotaVolumes] = i.VolumeSize
	}
	if err := s.refuseParts(ctx, c, body, &version, &i); err != nil {
		return nil, err
	}
	shown, err := s.viewInstance(ctx, c, &i, nil, view{detail: true})
	if err != nil {
		return nil, err
	}
	out := &wire.InstanceBody{Instance: shown}
	if err := s.willAnswer(ctx, c, out); err != nil {
		return nil, err
	}
	return out, s.insert(ctx, c, i, input)
}

func (s *server) insert(ctx context.Context, c *call, i trove.Instance, input trove.CreateInput) error {
	var op string
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.TakeQuota(ctx, i.ProjectID, i.Held); err != nil {
			return err
		}
		if err := tx.InsertInstance(ctx, i); err != nil {
			return err
		}
		var err error
		op, err = workflow.Enqueue(ctx, tx, s.cfg.Clock.Now(), workflow.Request{
			Kind: trove.OpCreate, Target: i.ID, ProjectID: i.ProjectID, RequestID: telemetry.RequestID(ctx), Input: input,
		})
		if err != nil {
			return err
		}
		// Both may have been deleted since they were looked at.
		if i.ConfigurationID != "" {
			if _, err := holdGroup(ctx, tx, i.ConfigurationID); err != nil {
				return err
			}
		}
		return holdVersion(ctx, tx, i.DatastoreVersionID)
	})
	if err != nil {
		return fmt.Errorf("create instance: %w", err)
	}
	s.began(ctx, c, op)
	return nil
}

// began tells the caller which operation its call began, and the taskmanager that there is work.
func (s *server) began(ctx context.Context, c *call, op string) {
	c.header.Set(wire.HeaderOperation, op)
	if s.cfg.Wake != nil {
		s.cfg.Wake(ctx)
	}
}

// createInput collects what the operation needs beside the row. Passwords are sealed before they reach the store.
func (s *server) createInput(ctx context.Context, c *call, body object, version *trove.DatastoreVersion, i *trove.Instance) (trove.CreateInput, error) {
	var in trove.CreateInput
	rules := rulesOf(version)
	databases, err := rules.databases(body.list("databases"))
	if err != nil {
		return in, err
	}
	users, err := rules.users(body.list("users"), "")
	if err != nil {
		return in, err
	}
	if err := rules.initialAccess(users, databases); err != nil {
		return in, err
	}
	for _, extra := range []struct {
		wanted bool
		rule   string
	}{{len(databases) > 0, "instance:extension:database:create"}, {len(users) > 0, "instance:extension:user:create"}} {
		if !extra.wanted {
			continue
		}
		if err := s.enforce(c, extra.rule, c.project); err != nil {
			return in, err
		}
	}
	in.Databases = databases
	if len(users) == 0 {
		return in, nil
	}
	var secret trove.CreateSecrets
	for _, u := range users {
		secret.Users = append(secret.Users, trove.CreateUser{Name: u.Name, Host: u.Host, Password: u.Password, Databases: u.Databases})
	}
	plain, err := json.Marshal(secret)
	if err != nil {
		return in, fmt.Errorf("encode the secrets: %w", err)
	}
	if in.Sealed, err = s.cfg.Sealer.Seal(ctx, trove.SecretPurpose(i.ID), trove.Secret(plain)); err != nil {
		return in, fmt.Errorf("seal the secrets: %w", err)
	}
	return in, nil
}

// refuseUnavailable answers for the parts of Trove's create that this server does not offer, with Trove's own checks where they come first.
func (s *server) refuseUnavailable(ctx context.Context, c *call, body object) error {
	if region := body.str("region_name"); region != "" && region != s.cfg.Region {
		return trove.Errorf(trove.KindBadRequest,
			"Endpoint not found for service_type=database, endpoint_type=publicURL, endpoint_region=%s.", region)
	}
	if l := body.str("locality"); l != "" && l != "affinity" && l != "anti-affinity" {
		return trove.Errorf(trove.KindBadRequest, "Invalid locality '%s'. Must be one of ['affinity', 'anti-affinity']", l)
	}
	if body.str("replica_of") != "" {
		return s.refuseReplica(ctx, c, body)
	}
	if n, _ := whole(body["replica_count"]); n > 1 {
		return trove.Errorf(trove.KindBadRequest, "Replica count only valid when creating replicas. Cannot create %d instances.", n)
	}
	return nil
}

func (s *server) refuseReplica(ctx context.Context, c *call, body object) error {
	for _, part := range []struct{ key, text string }{
		{"flavorRef", "Cannot specify flavor when creating replicas."},
		{"volume", "Cannot specify volume when creating replicas."},
		{"datastore", "Cannot specify datastore when creating replicas."},
		{"locality", "Cannot specify locality when creating replicas."},
		{"databases", "Cannot create a replica with users or databases."},
		{"users", "Cannot create a replica with users or databases."},
	} {
		if body.has(part.key) {
			return trove.Errorf(trove.KindBadRequest, "%s", part.text)
		}
	}
	for _, nic := range body.list("nics") {
		if nic.has("ip_address") {
			return trove.Errorf(trove.KindBadRequest, "Cannot specify IP address when creating replicas.")
		}
	}
	source := &call{project: c.project, admin: c.admin}
	if err := s.loadInstance(ctx, source, &Operation{}, body.str("replica_of")); err != nil {
		return err
	}
	if source.instance.ReplicaOf != "" {
		return trove.Errorf(trove.KindUnauthorized, "Cannot create a replica of a replica %s", source.instance.ID)
	}
	if err := source.instance.CheckActionable(source.instance.BackingUp); err != nil {
		return trove.Wrap(trove.KindUnprocessable, err, "Instance %s is not currently available for an action to be performed (instance status was %s).",
			source.instance.ID, source.instance.Status(source.instance.BackingUp))
	}
	version, _, err := s.datastoreVersion(ctx, source.instance.DatastoreVersionID)
	if err != nil {
		return err
	}
	if !version.Capabilities.Replication {
		return unsupported("replication", version.DatastoreName)
	}
	return notYet(noReplicas)
}

// noReplicas is what is said of an action on a replica set.
const noReplicas = "Replica sets cannot be made or changed yet: this release does not offer replication."

// unsupported is what Trove says of an ability that a datastore does not have.
func unsupported(operation, datastore string) error {
	return trove.Errorf(trove.KindNotImplemented, "The '%s' operation is not supported for the '%s' datastore.", operation, datastore)
}

// lastSegment returns what stands after the last slash: references may be URLs.
func lastSegment(ref string) string {
	return ref[strings.LastIndexByte(ref, '/')+1:]
}
