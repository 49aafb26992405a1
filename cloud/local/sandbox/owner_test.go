package sandbox_test

import (
	"os"
	"syscall"
)

func owner(info os.FileInfo) int {
	if info == nil {
		return -1
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}
