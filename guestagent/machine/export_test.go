package machine

// Real is the kernel that this process runs on.
func Real() Kernel { return kernel{} }
