package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// measurement is the whole, in turns.
type measurement struct {
	options
	service *service
	bare    *bare

	small    turn
	idles    map[int]costs // by how many instances there were
	bares    []time.Duration
	ours     []turn
	failures []string
}

// turn is what the service did once.
type turn struct {
	n        int
	active   time.Duration
	accepted time.Duration // until all requests were answered
	create   costs
	delete   costs
	gone     time.Duration
	lists    []time.Duration // of our API meanwhile
}

// costs are requests and bytes of answers by service and method.
type costs struct{ requests, bytes map[string]float64 }

func (c costs) minus(d costs) costs {
	r := costs{maps.Clone(c.requests), maps.Clone(c.bytes)}
	for k, v := range d.requests {
		r.requests[k] -= v
	}
	for k, v := range d.bytes {
		r.bytes[k] -= v
	}
	return r
}

func total(m map[string]float64) (sum float64) {
	for _, v := range m {
		sum += v
	}
	return sum
}

func (m *measurement) must(kept bool, format string, args ...any) {
	if !kept {
		m.failures = append(m.failures, fmt.Sprintf(format, args...))
	}
}

// costs are what our processes have asked so far.
func (s *service) costs(ctx context.Context) (costs, error) {
	c := costs{map[string]float64{}, map[string]float64{}}
	for _, part := range parts {
		text, err := s.page(ctx, part)
		if err != nil {
			return c, err
		}
		for line := range strings.Lines(text) {
			name, rest, ok := strings.Cut(line, "{")
			into := map[string]map[string]float64{"trove_openstack_requests_total": c.requests, "trove_openstack_answer_bytes_total": c.bytes}[name]
			labels, value, ok2 := strings.Cut(rest, "} ")
			if !ok || !ok2 || into == nil {
				continue
			}
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return c, fmt.Errorf("%q: %w", line, err)
			}
			into[label(labels, "service")+" "+label(labels, "method")] += n
		}
	}
	return c, nil
}

func label(labels, name string) string {
	_, rest, _ := strings.Cut(labels, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func (m *measurement) all(ctx context.Context) (err error) {
	m.idles = map[int]costs{}
	if m.small, err = m.turn(ctx, m.options.small, true); err != nil {
		return err
	}
	for round := range m.rounds {
		note("bare script, %d servers", m.large)
		made, took, err := m.bare.create(ctx, m.large)
		if err != nil {
			return errors.Join(err, m.bare.remove(ctx, made))
		}
		note("all ACTIVE after %.1f s", took.Seconds())
		m.bares = append(m.bares, took)
		if err := m.bare.remove(ctx, made); err != nil {
			return err
		}
		t, err := m.turn(ctx, m.large, round == 0)
		if err != nil {
			return err
		}
		m.ours = append(m.ours, t)
	}
	return nil
}

// turn makes n instances at once and removes them.
func (m *measurement) turn(ctx context.Context, n int, idle bool) (turn, error) {
	t := turn{n: n}
	note("service, %d instances", n)
	before, err := m.service.costs(ctx)
	if err != nil {
		return t, err
	}
	if err := m.create(ctx, &t); err != nil {
		return t, err
	}
	note("all ACTIVE after %.1f s", t.active.Seconds())
	after, err := m.service.costs(ctx)
	if err != nil {
		return t, err
	}
	t.create = after.minus(before)
	if idle {
		if m.idles[n], err = m.rest(ctx); err != nil {
			return t, err
		}
	}
	if before, err = m.service.costs(ctx); err != nil {
		return t, err
	}
	began := time.Now()
	list, err := m.service.client.AllInstances(ctx)
	if err != nil {
		return t, err
	}
	if err := each(list, func(_ int, i *wire.Instance) error { return m.service.client.DeleteInstance(ctx, i.ID) }); err != nil {
		return t, err
	}
	if err := m.service.waitForNothing(ctx); err != nil {
		return t, err
	}
	t.gone = time.Since(began)
	note("all gone after %.1f s", t.gone.Seconds())
	if after, err = m.service.costs(ctx); err != nil {
		return t, err
	}
	t.delete = after.minus(before)
	return t, nil
}

// create asks for all at once and waits until all are ACTIVE, while somebody lists them.
func (m *measurement) create(ctx context.Context, t *turn) error {
	flavor := m.bare.flavor
	began := time.Now()
	done := make(chan struct{})
	var wg sync.WaitGroup
	var listing error
	wg.Go(func() { listing = m.list(ctx, t, done) })
	names := make([]struct{}, t.n)
	err := each(names, func(i int, _ *struct{}) error {
		_, err := m.service.client.CreateInstance(ctx, wire.InstanceCreate{
			Name: fmt.Sprintf("scale-%03d", i), FlavorRef: wire.Ref(flavor), Volume: &wire.VolumeCreate{Size: 1}, Datastore: &wire.DatastoreChoice{Type: datastore, Version: "1"},
		})
		return err
	})
	t.accepted = time.Since(began)
	for err == nil {
		var active int
		if active, err = m.service.active(ctx); active == t.n {
			break
		}
		time.Sleep(500 * time.Millisecond)
		if time.Since(began) > 30*time.Minute {
			err = fmt.Errorf("after %s only %d of %d instances are ACTIVE, and %d guests have come", time.Since(began), active, t.n, m.service.guests.Joined())
		}
	}
	t.active = time.Since(began)
	close(done)
	wg.Wait()
	return errors.Join(err, listing)
}

// list lists instances four times a second and notes how long each answer took.
func (m *measurement) list(ctx context.Context, t *turn, done <-chan struct{}) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
		}
		began := time.Now()
		if _, _, err := m.service.client.Instances(ctx, client.ListOptions{}); err != nil {
			return err
		}
		t.lists = append(t.lists, time.Since(began))
	}
}

// active returns how many instances are ACTIVE. One in ERROR is an error.
func (s *service) active(ctx context.Context) (int, error) {
	list, err := s.client.AllInstances(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, i := range list {
		switch i.Status {
		case "ACTIVE", "HEALTHY":
			n++
		case "ERROR", "FAILED":
			return n, fmt.Errorf("instance %s is in %s: %+v", i.ID, i.Status, i.Fault)
		}
	}
	return n, nil
}

// waitForNothing waits until there are no instances.
func (s *service) waitForNothing(ctx context.Context) error {
	for end := time.Now().Add(20 * time.Minute); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		list, err := s.client.AllInstances(ctx)
		if err != nil || len(list) == 0 {
			return err
		}
	}
	return errors.New("instances are still there after 20 minutes")
}

// rest counts what is asked while nothing happens, for a minute.
func (m *measurement) rest(ctx context.Context) (costs, error) {
	time.Sleep(20 * time.Second) // what the last operation has left is over
	before, err := m.service.costs(ctx)
	if err != nil {
		return costs{}, err
	}
	began := time.Now()
	time.Sleep(m.idle)
	after, err := m.service.costs(ctx)
	if err != nil {
		return costs{}, err
	}
	c := after.minus(before)
	for _, values := range []map[string]float64{c.requests, c.bytes} {
		for k := range values {
			values[k] /= time.Since(began).Minutes()
		}
	}
	return c, nil
}

// tell prints the tables and says what was not kept.
func (m *measurement) tell() error {
	var bares, ours time.Duration
	var lists []time.Duration
	out("| %d at once, %d at the same time | bare script: all ACTIVE | service: all accepted | service: all ACTIVE | ratio | deleted |", m.large, m.parallel)
	out("| --- | --- | --- | --- | --- | --- |")
	for i, t := range m.ours {
		bares, ours, lists = bares+m.bares[i], ours+t.active, append(lists, t.lists...)
		out("| turn %d | %.1f s | %.1f s | %.1f s | %.2f | %.1f s |", i+1, m.bares[i].Seconds(), t.accepted.Seconds(), t.active.Seconds(), t.active.Seconds()/m.bares[i].Seconds(), t.gone.Seconds())
	}
	ratio := ours.Seconds() / bares.Seconds()
	m.must(ratio <= maxRatio, "the service took %.2f times as long as the bare script", ratio)
	slices.Sort(lists)
	out("| all turns | %.1f s | | %.1f s | %.2f, limit %.1f | |\n", bares.Seconds(), ours.Seconds(), ratio, maxRatio)
	p99 := lists[len(lists)*99/100]
	out("`GET /instances` meanwhile, %d times: median %.0f ms, 99 of 100 within %.0f ms (limit %.0f ms), slowest %.0f ms.\n", len(lists),
		ms(lists[len(lists)/2]), ms(p99), ms(maxList), ms(lists[len(lists)-1]))
	m.must(p99 <= maxList, "99 of 100 lists of instances took up to %s", p99)
	m.compare("of one instance, until all are ACTIVE", m.small.create, m.ours[0].create, float64(m.small.n), float64(m.large))
	m.compare("of one instance, until all are deleted", m.small.delete, m.ours[0].delete, float64(m.small.n), float64(m.large))
	few, many := m.idles[m.small.n], m.idles[m.large]
	m.table("a minute while nothing happens, in all", few, many, 1, 1)
	m.must(total(few.requests) <= maxIdle && total(many.requests) <= maxIdle, "while nothing happened there were %.1f requests a minute with %d, %.1f with %d",
		total(few.requests), m.options.small, total(many.requests), m.large)
	if len(m.failures) == 0 {
		return nil
	}
	for _, f := range m.failures {
		out("NOT KEPT: %s", f)
	}
	return fmt.Errorf("%d limits were not kept", len(m.failures))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// compare prints what is asked with few and with many instances. Neither requests nor bytes of one may grow with them by more than the looks at what takes longer.
func (m *measurement) compare(what string, few, many costs, perFew, perMany float64) {
	m.table(what, few, many, perFew, perMany)
	fewRequests, manyRequests := total(few.requests)/perFew, total(many.requests)/perMany
	fewBytes, manyBytes := total(few.bytes)/perFew/1024, total(many.bytes)/perMany/1024
	m.must(manyRequests <= maxGrow*fewRequests, "requests %s: %.1f with %d, %.1f with %d", what, fewRequests, m.options.small, manyRequests, m.large)
	m.must(manyBytes <= maxGrow*fewBytes, "KiB of answers %s: %.1f with %d, %.1f with %d", what, fewBytes, m.options.small, manyBytes, m.large)
}

// table prints what is asked with few and with many instances.
func (m *measurement) table(what string, few, many costs, perFew, perMany float64) {
	out("| requests %s | with %d | with %d | KiB of answers with %d | with %d |", what, m.options.small, m.large, m.options.small, m.large)
	out("| --- | --- | --- | --- | --- |")
	for _, k := range slices.Sorted(maps.Keys(many.requests)) {
		if few.requests[k] == 0 && many.requests[k] == 0 {
			continue // asked before
		}
		out("| %s | %.1f | %.1f | %.1f | %.1f |", k, few.requests[k]/perFew, many.requests[k]/perMany, few.bytes[k]/perFew/1024, many.bytes[k]/perMany/1024)
	}
	out("| all | %.1f | %.1f | %.1f | %.1f |\n", total(few.requests)/perFew, total(many.requests)/perMany, total(few.bytes)/perFew/1024, total(many.bytes)/perMany/1024)
}
