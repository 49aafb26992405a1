package taskmanager

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// createInstance makes an instance out of its row. What fails for good is removed again, its quota given back; the row stays as ERROR with
// a fault, so that its owner can read why, and deletes it.
func (m *Manager) createInstance() *workflow.Definition {
	usage := m.usageTimeout
	return &workflow.Definition{
		Kind:     trove.OpCreate,
		Deadline: usage,
		Steps: []workflow.Step{
			{Name: "token", Says: "preparing the enrolment", Do: m.makeToken, Undo: blame(nil)},
			{Name: "network", Says: "making the network and the volume", Do: m.createNetwork, Undo: blame(m.undoNetwork), Deadline: cmp.Or(m.patience.Network, 2*time.Minute)},
			{Name: "volume", Says: "attaching the volume", Do: m.createVolume, Undo: blame(m.undoNewVolume), Deadline: cmp.Or(m.patience.Volume, usage/2)},
			{Name: "machine", Says: "starting the machine", Do: m.createMachine, Undo: blame(m.undoMachine), Deadline: cmp.Or(m.patience.Boot, usage/2), Weight: 2},
			{Name: "guest", Says: "waiting for the guest to enrol", Do: m.awaitGuest, Undo: blame(nil), Deadline: cmp.Or(m.patience.Boot, usage/2), Late: neverReported, Weight: 3},
			{Name: "prepare", Says: "preparing the database", Do: m.guestStep(m.prepare), Undo: blame(nil), Deadline: usage, Weight: 8},
			{Name: "names", Says: "making the host name", Do: m.createNames, Undo: blame(m.undoNames), Deadline: outage},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.createClosed,
	}
}

// neverReported is what it means that a guest has not enrolled in time.
const neverReported = "The machine runs and its guest has not reported: its image does not boot, or the guest cannot reach the controllers. Its console says more."

// makeToken makes the enrolment token. Its hash and its sealed text are stored in one transaction, so that a machine that is found after a crash
// has the token that the store knows, whoever made it.
func (m *Manager) makeToken(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	token := specs.NewToken()
	sealed, err := m.sealer.Seal(ctx, tokenPurpose(op), token)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("seal the enrolment token: %w", err)
	}
	if err := op.SetNote(noteToken, sealed); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which note
	}
	expires := m.clock.Now().Add(m.usageTimeout)
	return workflow.DoneWith(func(ctx context.Context, tx store.Tx) error {
		return tx.PutEnrolmentToken(ctx, op.Target(), bus.HashToken(token), expires) //nolint:wrapcheck // the engine adds the step
	}), nil
}

// tokenPurpose binds the sealed token to its operation.
func tokenPurpose(op *workflow.Op) string { return "enrolment:" + op.ID() }

// createNetwork makes the ports, and begins the volume meanwhile: both take about as long, and a create is as fast as its slowest part. What the
// volume meets is left to its own step, which does the same again and finds it there.
func (m *Manager) createNetwork(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	adopt, err := adopts(op)
	if err == nil {
		err = m.adoptable(ctx, op)
	}
	if err != nil {
		return workflow.Outcome{}, err
	}
	var wg sync.WaitGroup
	if w.HasVolume() && op.Attempt() == 0 && !adopt {
		wg.Go(func() {
			if _, err := m.cloud.EnsureVolume(ctx, w.Volume(w.Instance.VolumeSize)); err != nil {
				m.log.DebugContext(ctx, "volume was not begun early", "instance", op.Target(), "op", op.ID(), "err", err)
			}
		})
	}
	n, err := m.cloud.EnsureNetwork(ctx, w.Network(w.Instance.Access))
	wg.Wait()
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("make the network: %w", err)
	}
	return m.networkReady(op, n)
}

// networkReady says what a step does with a network: it goes on when that is ready.
func (m *Manager) networkReady(op *workflow.Op, n cloud.Network) (workflow.Outcome, error) {
	if !n.Ready {
		return workflow.Again(m.pause(op), "waiting for the network"), nil
	}
	return workflow.Done(), op.SetNote(noteAddresses, n.Addresses)
}

// createVolume makes the data volume.
func (m *Manager) createVolume(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	if !w.HasVolume() {
		return workflow.Done(), nil
	}
	v, out, err := m.volumeReady(ctx, op, w, w.Instance.VolumeSize)
	if err != nil || v.ID == "" {
		return out, err
	}
	return workflow.Done(), op.SetNote(noteVolume, v.ID)
}

// volumeReady makes the volume have the size. The volume is empty while it is waited for; the outcome or the error is then the step's.
func (m *Manager) volumeReady(ctx context.Context, op *workflow.Op, w specs.Wish, size int) (cloud.Volume, workflow.Outcome, error) {
	v, err := m.cloud.EnsureVolume(ctx, w.Volume(size))
	switch {
	case err != nil:
		return cloud.Volume{}, workflow.Outcome{}, fmt.Errorf("make the volume: %w", err)
	case v.Failed != "":
		e := trove.Errorf(trove.KindInternal, "The volume failed: %s", v.Failed)
		return cloud.Volume{}, workflow.Outcome{}, trove.Permanent(e)
	case !v.Ready:
		return cloud.Volume{}, workflow.Again(m.pause(op), "waiting for the volume"), nil
	}
	return v, workflow.Outcome{}, nil
}

// awaitGuest waits until the guest has said hello. The guest is asked itself as well when the step looks again: hello can be lost.
func (m *Manager) awaitGuest(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	i, err := m.store.Instance(ctx, op.Target())
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if !i.Guest.SeenAt.Before(op.Created()) { // one that was seen before is of a takeover that failed, or was taken back
		return workflow.Done(), nil
	}
	if op.Attempt() > 0 {
		ctx, cancel := context.WithTimeout(ctx, ackTimeout)
		defer cancel()
		if _, err := m.guests.Ping(ctx, op.Target()); err == nil {
			return workflow.Done(), nil
		}
	}
	return workflow.WaitFor("waiting for the guest to report"), nil
}

// prepare is the first start of the engine, with its databases and users.
func (m *Manager) prepare(_ context.Context, op *workflow.Op) (command, error) {
	return command{
		cmd:   guestapi.CmdPrepare,
		doing: "preparing the database",
		args:  func(ctx context.Context) (any, error) { return m.prepareArgs(ctx, op) },
	}, nil
}

// prepareArgs opens the create's secrets; they go to the guest and nowhere else.
func (m *Manager) prepareArgs(ctx context.Context, op *workflow.Op) (guestapi.PrepareArgs, error) {
	var in trove.CreateInput
	if err := op.Input(&in); err != nil {
		return guestapi.PrepareArgs{}, err //nolint:wrapcheck // says which operation
	}
	i, err := m.store.Instance(ctx, op.Target())
	if err != nil {
		return guestapi.PrepareArgs{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	overrides, err := reconcilers.Overrides(ctx, m.store, &i)
	if err != nil {
		return guestapi.PrepareArgs{}, err //nolint:wrapcheck // says which group
	}
	version, err := m.store.DatastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return guestapi.PrepareArgs{}, fmt.Errorf("read the datastore version of instance %s: %w", i.ID, err)
	}
	args := guestapi.PrepareArgs{RequireTLS: version.RequireTLS, ServerID: i.ServerID, RAM: in.Flavor.RAM, VCPUs: in.Flavor.VCPUs, Databases: in.Databases, Overrides: overrides, Adopt: in.Adopt}
	if args.Certificate, err = m.firstCertificate(ctx, op); err != nil {
		return guestapi.PrepareArgs{}, err
	}
	if in.Sealed == "" {
		return args, nil
	}
	plain, err := m.sealer.Open(ctx, trove.SecretPurpose(op.Target()), in.Sealed)
	if err != nil {
		return guestapi.PrepareArgs{}, fmt.Errorf("open the users' passwords: %w", err)
	}
	var s trove.CreateSecrets
	if err := json.Unmarshal([]byte(plain.Reveal()), &s); err != nil {
		// The error's text could hold a piece of what was sealed.
		return guestapi.PrepareArgs{}, trove.Permanent(trove.Errorf(trove.KindInternal, "The users' passwords cannot be read."))
	}
	args.RootPassword = s.RootPassword
	for _, u := range s.Users {
		args.Users = append(args.Users, guestapi.UserArgs(u))
	}
	return args, nil
}

// firstCertificate makes the certificate that the database shows from its first start on. Without one it makes its own, and the reconciler gives it one
// later: that is no reason for a create to fail.
func (m *Manager) firstCertificate(ctx context.Context, op *workflow.Op) (string, error) {
	if m.certifier == nil {
		return "", nil
	}
	var addresses []trove.Address
	if err := note(op, noteAddresses, &addresses); err != nil {
		return "", err
	}
	call, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	signed, err := reconcilers.Certify(call, m.guests, m.certifier, op.Target(), "", addresses)
	if err != nil {
		m.log.InfoContext(ctx, "the database begins without a certificate of the authority", "instance", op.Target(), "op", op.ID(), "err", err)
		return "", nil
	}
	return string(signed.Chain), op.SetNote(noteCertificate, certificateNote{Authority: signed.AuthorityID, Ends: signed.Ends})
}

// certificateNote is what the row of the certificate will say.
type certificateNote struct {
	Authority string    `json:"authority"`
	Ends      time.Time `json:"ends"`
}

// certified notes the first certificate. One that lacks the host name, which comes after it, is replaced by the reconciler.
func (m *Manager) certified(ctx context.Context, tx store.Tx, op *workflow.Op) error {
	var host string
	var c certificateNote
	if err := note(op, noteHostname, &host); err != nil {
		return err
	}
	found, err := op.Note(noteCertificate, &c)
	if err != nil || !found || host != "" {
		return err //nolint:wrapcheck // says which note
	}
	return tx.PutCertificate(ctx, store.Certificate{InstanceID: op.Target(), AuthorityID: c.Authority, Ends: c.Ends}) //nolint:wrapcheck // says whose
}

// createNames gives the instance a host name, where the cloud has a name service.
func (m *Manager) createNames(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var addresses []trove.Address
	if err := note(op, noteAddresses, &addresses); err != nil {
		return workflow.Outcome{}, err
	}
	host, err := m.cloud.EnsureName(ctx, op.Target(), addresses)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("make the host name: %w", err)
	}
	return workflow.Done(), op.SetNote(noteHostname, host)
}

// ready ends every operation: the row is written by the closing transaction, which follows at once.
func (m *Manager) ready(context.Context, *workflow.Op) (workflow.Outcome, error) {
	return workflow.Done(), nil
}

func (m *Manager) undoNetwork(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if adopt, err := adopts(op); err != nil || adopt {
		return workflow.Done(), err
	}
	if err := m.cloud.RemoveNetwork(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the network: %w", err)
	}
	// createNetwork begins the volume too.
	return m.undoVolume(ctx, op)
}

func (m *Manager) undoVolume(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if err := m.cloud.RemoveVolume(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the volume: %w", err)
	}
	return workflow.Done(), nil
}

func (m *Manager) undoNames(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if err := m.cloud.RemoveName(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the host name: %w", err)
	}
	return workflow.Done(), nil
}

// buildErrors are the tasks that tell at which part a create failed.
var buildErrors = map[string]trove.Task{
	"network": trove.TaskBuildErrorPort,
	"volume":  trove.TaskBuildErrorVolume,
	"machine": trove.TaskBuildErrorServer,
	"guest":   trove.TaskBuildErrorTimeout,
	"prepare": trove.TaskBuildErrorTimeout,
	"names":   trove.TaskBuildErrorDNS,
}

func buildError(op *workflow.Op) trove.Task {
	var step string
	_, _ = op.Note(noteFailed, &step) // an unreadable note leaves the general task
	if t, ok := buildErrors[step]; ok {
		return t
	}
	return trove.TaskBuildErrorServer
}

// createClosed writes the row of an instance that is made, or of one that could not be.
func (m *Manager) createClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	c := closing{what: "The instance could not be created", failed: buildError(op), change: m.created}
	if adopt, err := adopts(op); err != nil {
		return err
	} else if adopt {
		c.what = "The instance could not be taken over"
	}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil {
		return err
	}
	if state != trove.OperationDone {
		return nil
	}
	if err := m.certified(ctx, tx, op); err != nil {
		return err
	}
	return m.serving(ctx, tx, op)
}

// created writes what the steps found, or empties the row of what was removed.
func (m *Manager) created(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
	if !ok {
		i.ServerStatus, i.Addresses, i.Hostname = trove.ServerNone, nil, ""
		if adopt, err := adopts(op); err != nil || adopt {
			return err
		}
		i.ComputeID, i.VolumeID = "", ""
		return giveAll(ctx, tx, i)
	}
	i.ServerStatus = trove.ServerActive
	for key, v := range map[string]any{
		noteAddresses: &i.Addresses, noteHostname: &i.Hostname, noteMachine: &i.ComputeID, noteVolume: &i.VolumeID,
	} {
		if err := note(op, key, v); err != nil {
			return err
		}
	}
	return nil
}

// serving notes that the database answers: the end of the guest's command says so, also when the heartbeat with the news comes later or never.
func (m *Manager) serving(ctx context.Context, tx store.Tx, op *workflow.Op) error {
	i, err := tx.Instance(ctx, op.Target())
	if err != nil {
		return fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if i.Guest.Service.Answering() {
		return nil
	}
	if err := tx.SetServiceStatus(ctx, op.Target(), trove.ServiceHealthy, m.clock.Now()); err != nil {
		return fmt.Errorf("write the service status: %w", err)
	}
	return nil
}
