package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kernelFlags are the settings that a kubelet counts on, below /proc/sys.
var kernelFlags = []struct {
	name string
	want int
}{
	{"vm/overcommit_memory", 1}, {"vm/panic_on_oom", 0},
	{"kernel/panic", 10}, {"kernel/panic_on_oops", 1},
	{"kernel/keys/root_maxkeys", 1000000}, {"kernel/keys/root_maxbytes", 25000000},
}

// checkKernelFlags says which of the kernel's settings are others: all at once,
// and how they are to be set. A kernel without a setting is as it is.
func checkKernelFlags(sys string) error {
	var errs []error
	for _, f := range kernelFlags {
		data, err := os.ReadFile(filepath.Join(sys, f.name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		have := 0
		if err == nil {
			have, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case have != f.want:
			errs = append(errs, fmt.Errorf("invalid kernel flag: %s, expected value: %d, actual value: %d", f.name, f.want, have))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("protectKernelDefaults: %w; set them with sysctl, or leave protectKernelDefaults out", errors.Join(errs...))
}
