package cloud

import "context"

// Hosts tells how full the machines are that instances run on. A cloud whose machines are somebody else's does not have it.
type Hosts interface {
	// Hosts measures each machine as it is now.
	Hosts(ctx context.Context) ([]Host, error)
}

// Host is a machine that instances run on. Amounts of memory and space are in bytes.
type Host struct {
	Name      string
	Memory    Amount // Promised to machines that are not stopped, Used by them; Left is what the machine has, whoever uses the rest
	Cores     Amount // Promised to machines that are not stopped; Used and Left are 0: cores are shared
	Volumes   Amount // Total is what may be promised
	Addresses Amount // Promised is 0
	Pool      HostPool

	Running int // machines
	Stopped int // on request
	Down    int // neither: an operation or a repair is under way
	Loops   int // loop devices in use

	Warnings []Warning
}

// Amount is how much there is of something.
type Amount struct {
	Total, Promised, Used, Left int64
}

// HostPool is what else is to be known of the space for volumes.
type HostPool struct {
	Overcommit float64
	Reserved   bool  // volumes take their space when they are made
	Pending    int64 // promised, and not taken yet
	Free       int64 // of the file system
	StopMark   int64 // free space below which no volume is made or grown
}

// Warning says in a sentence that something comes to its end; Of is memory, cores, volumes or addresses.
type Warning struct {
	Of       string
	Sentence string
}
