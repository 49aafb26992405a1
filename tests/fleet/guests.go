package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/guestapi"
)

// simulated is a guest without an engine.
type simulated struct {
	n         int
	conn      *natsbus.GuestConn
	connects  atomic.Int64
	heartbeat []byte
}

// crowd is what one child process says of its guests.
type crowd struct {
	Guests    int   `json:"guests"`
	Connected int   `json:"connected"` // guests that are connected now
	Connects  int64 `json:"connects"`  // times that guests connected since the start
	Sent      int64 `json:"sent"`
	RSS       int64 `json:"rss"`
}

// guests runs simulated guests until its input ends. A line of the input is "crowd", "interval DURATION" or "flood N SECONDS", each answered by a line.
func guests(ctx context.Context, o options) error {
	var sent atomic.Int64
	all := make([]*simulated, 0, o.guests)
	for n := o.from; n < o.from+o.guests; n++ {
		g, err := join(ctx, o, n)
		if err != nil {
			return fmt.Errorf("guest %d: %w", n, err)
		}
		all = append(all, g)
	}
	pace := make(chan time.Duration)
	var beating sync.WaitGroup
	beating.Go(func() { beat(ctx, all, o.interval, pace, &sent) })
	defer beating.Wait()
	defer close(pace)
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "interval":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				return err
			}
			pace <- d
		case "flood":
			n, _ := strconv.Atoi(words[1])
			seconds, _ := strconv.Atoi(words[2])
			go flood(ctx, all[n-o.from], time.Duration(seconds)*time.Second)
		}
		c := crowd{Guests: len(all), Sent: sent.Load(), RSS: resident()}
		for _, g := range all {
			if g.conn.Connected() {
				c.Connected++
			}
			c.Connects += g.connects.Load()
		}
		if err := out.Encode(c); err != nil {
			return err
		}
	}
	return in.Err()
}

func join(ctx context.Context, o options, n int) (*simulated, error) {
	g := &simulated{n: n}
	var err error
	g.heartbeat, err = json.Marshal(guestapi.Heartbeat{
		BootID: "simulated", Seq: 1, Service: trove.ServiceHealthy, AgentVersion: "1.0.0", EngineStart: 1, VolumeUsed: 1 << 28, VolumeTotal: 1 << 30,
	})
	if err != nil {
		return nil, err
	}
	hello, err := json.Marshal(guestapi.Hello{BootID: "simulated", AgentVersion: "1.0.0", Protocol: guestapi.Version, Engine: "fake", Prepared: true})
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	joined := make(chan struct{}) // it may be connected before g.conn is set
	defer close(joined)
	g.conn, err = natsbus.DialGuest(ctx, identityDir(o.dir, n), natsbus.Options{Log: log, Jitter: o.jitter, OnConnect: func(ctx context.Context) {
		<-joined
		g.connects.Add(1)
		_ = g.conn.Publish(ctx, guestapi.ReportSubject(instanceID(g.n), guestapi.ReportHello), hello)
		_ = g.conn.Publish(ctx, guestapi.ReportSubject(instanceID(g.n), guestapi.ReportHeartbeat), g.heartbeat)
	}})
	if err != nil {
		return nil, err
	}
	_, err = guestapi.Serve(ctx, g.conn, instanceID(n), log, func(context.Context, guestapi.Request) (any, error) { return nil, nil })
	return g, err
}

// beat sends one heartbeat of each guest in each interval, evenly spread, until pace is closed.
func beat(ctx context.Context, all []*simulated, interval time.Duration, pace <-chan time.Duration, sent *atomic.Int64) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	const slice = 10 * time.Millisecond
	tick := time.NewTicker(slice)
	defer tick.Stop()
	start, done := time.Now(), 0
	for {
		select {
		case d, ok := <-pace:
			if !ok {
				return
			}
			interval, start, done = d, time.Now(), 0
		case <-tick.C:
		}
		if interval <= 0 {
			continue
		}
		due := int(float64(len(all)) * time.Since(start).Seconds() / interval.Seconds())
		// One heartbeat of each is made up for, as an agent does whose timer fires late: the next one comes at its own time.
		done = max(done, due-len(all))
		for ; done < due; done++ {
			g := all[done%len(all)]
			if g.conn.Publish(ctx, guestapi.ReportSubject(instanceID(g.n), guestapi.ReportHeartbeat), g.heartbeat) == nil {
				sent.Add(1)
			}
		}
	}
}

// flood sends as much as the connection takes.
func flood(ctx context.Context, g *simulated, most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); {
		if g.conn.Publish(ctx, guestapi.ReportSubject(instanceID(g.n), guestapi.ReportHeartbeat), g.heartbeat) != nil {
			time.Sleep(time.Millisecond) // it was cut
		}
	}
}
