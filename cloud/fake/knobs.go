package fake

import (
	"context"
	"errors"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/clock"
)

// ErrLost is what a call returns whose reply was lost: the thing may have been done.
var ErrLost = errors.New("the reply of the cloud was lost")

// AnyOp stands for every operation, where a knob takes the name of one. The names are those of the port's methods, such as "EnsureVolume".
const AnyOp = ""

// FailNext makes the next call of op fail with err before it does anything. Several wait in line.
func (c *Cloud) FailNext(op string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failNext[op] = append(c.failNext[op], err)
}

// FailAlways makes each call of op fail with err until it is called with nil.
func (c *Cloud) FailAlways(op string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.failAll, op)
		return
	}
	c.failAll[op] = err
}

// Delay makes each call of op wait before it does anything, or until its context ends; 0 ends that.
func (c *Cloud) Delay(op string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay[op] = d
}

// Lose makes the next call of op do its work and return ErrLost.
func (c *Cloud) Lose(op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loseNext[op]++
}

// OnCall has f called around each call of every method, with "before EnsureVolume" or "after EnsureVolume" and the instance ("" where there is
// none). A context that f cancels before the call ends it without effect, one that it cancels after the call loses the reply. Nil ends it.
func (c *Cloud) OnCall(f func(op, instance string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onCall = f
}

// Calls returns "op instance" for each call so far, in their order.
func (c *Cloud) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// SetLooks changes how many looks things that are made or changed from now on need until they are ready.
func (c *Cloud) SetLooks(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.Looks = n
}

// SetPool changes the size of the volume pool; 0 is no limit.
func (c *Cloud) SetPool(gib int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.PoolGiB = gib
}

// SetBoot changes the hooks that are called when a machine starts and stops; each may be nil.
func (c *Cloud) SetBoot(boot func(instance string, bootData []byte), halt func(instance string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.Boot, c.opt.Halt = boot, halt
}

// AddImage makes an image usable.
func (c *Cloud) AddImage(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.Images = append(c.opt.Images, id)
}

// Hide has the network, flavor or volume type not be there for the bearer of a token, as a cloud does with what is another project's.
func (c *Cloud) Hide(id string, from trove.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden[hiding{id, from}] = true
}

// CrashMachine ends the instance's machine as if it had ended by itself: it is stopped, with the reason.
func (c *Cloud) CrashMachine(instance, reason string) {
	c.breakMachine(instance, cloud.MachineStopped, reason)
}

// FailMachine makes the instance's machine fail for good.
func (c *Cloud) FailMachine(instance, reason string) {
	c.breakMachine(instance, cloud.MachineFailed, reason)
}

// VanishVolume takes the instance's volume away behind everybody's back, from under a machine too.
func (c *Cloud) VanishVolume(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.volumes[instance]; ok {
		c.vanished[instance] = v
		delete(c.volumes, instance)
	}
}

// ReturnVolume brings back a volume that vanished, with its data.
func (c *Cloud) ReturnVolume(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.vanished[instance]; ok {
		c.volumes[instance] = v
		delete(c.vanished, instance)
	}
}

// VanishMachine takes the instance's machine away behind everybody's back.
func (c *Cloud) VanishMachine(instance string) {
	c.mu.Lock()
	m, ok := c.machines[instance]
	delete(c.machines, instance)
	if ok {
		c.dropGroup(m.group)
	}
	halt := c.opt.Halt
	c.mu.Unlock()
	if ok && m.State == cloud.MachineRunning && halt != nil {
		halt(instance)
	}
}

// FailVolume makes the instance's volume fail for good.
func (c *Cloud) FailVolume(instance, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.volumes[instance]; ok {
		v.Ready, v.Failed, v.looks = false, reason, 0
	}
}

func (c *Cloud) breakMachine(instance string, to cloud.MachineState, reason string) {
	c.mu.Lock()
	m, ok := c.machines[instance]
	ran := ok && m.State == cloud.MachineRunning
	if ok {
		m.State, m.Reason, m.looks = to, reason, 0
	}
	halt := c.opt.Halt
	c.mu.Unlock()
	if ran && halt != nil {
		halt(instance)
	}
}

// after is what a call has still to do when the lock is released: hooks of the machine.
type after func()

// call runs do with the lock held, surrounded by all knobs. An instance id is checked unless the operation has none.
func call[T any](ctx context.Context, c *Cloud, op string, instance *string, do func() (T, after, error)) (T, error) {
	var zero T
	id := ""
	if instance != nil {
		id = *instance
	}
	if err := c.enter(ctx, op, id); err != nil {
		return zero, err
	}
	if instance != nil && !trove.ValidID(id) {
		return zero, trove.Permanent(trove.Errorf(trove.KindBadRequest, "%q is not an instance id.", id))
	}
	result, then, lost, err := locked(c, op, do)
	if then != nil {
		then()
	}
	c.hook("after "+op, id)
	switch {
	case err != nil:
		return zero, err
	case ctx.Err() != nil:
		return zero, context.Cause(ctx)
	case lost:
		return zero, ErrLost
	}
	return result, nil
}

func locked[T any](c *Cloud, op string, do func() (T, after, error)) (T, after, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	result, then, err := do()
	lost := false
	for _, o := range []string{op, AnyOp} {
		if c.loseNext[o] > 0 && !lost {
			c.loseNext[o]--
			lost = true
		}
	}
	return result, then, lost, err
}

// enter does what comes before the work: hook, delay, ordered failures.
func (c *Cloud) enter(ctx context.Context, op, instance string) error {
	c.hook("before "+op, instance)
	c.mu.Lock()
	c.calls = append(c.calls, op+" "+instance)
	delay := max(c.delay[op], c.delay[AnyOp])
	c.mu.Unlock()
	if delay > 0 {
		if err := clock.Sleep(ctx, delay); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range []string{op, AnyOp} {
		if err := c.failAll[o]; err != nil {
			return err
		}
		if line := c.failNext[o]; len(line) > 0 {
			c.failNext[o] = line[1:]
			return line[0]
		}
	}
	return nil
}

func (c *Cloud) hook(op, instance string) {
	c.mu.Lock()
	f := c.onCall
	c.mu.Unlock()
	if f != nil {
		f(op, instance)
	}
}
