// Command badagent stands for releases of the guest agent that are not well.
package main

import (
	"os"
	"time"
)

// mode is set by the linker.
var mode string

func main() {
	if mode == "crash" {
		os.Exit(3)
	}
	time.Sleep(24 * time.Hour) // it says nothing
}
