package kubelet

import (
	"strings"
	"testing"

	"skiff/kubelet/config"
)

func TestSwapOf(t *testing.T) {
	for _, tt := range []struct {
		name, conf string
		capacity   int64
		limited    bool
		err        string
	}{
		{name: "a machine without swap"},
		{name: "swap is on and not expected", capacity: 1 << 30, err: "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false (failSwapOn: false in the KubeletConfiguration)"},
		{name: "swap is on and expected", conf: "failSwapOn: false", capacity: 1 << 30},
		{name: "swap is shared", conf: "{failSwapOn: false, memorySwap: {swapBehavior: LimitedSwap}}", capacity: 1 << 30, limited: true},
		{name: "swap is not shared", conf: "{failSwapOn: false, memorySwap: {swapBehavior: NoSwap}}", capacity: 1 << 30},
		{name: "no such behaviour", conf: "memorySwap: {swapBehavior: UnlimitedSwap}",
			err: `invalid configuration: memorySwap.swapBehavior "UnlimitedSwap" must be one of: "", "LimitedSwap" or "NoSwap"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse([]byte(tt.conf))
			if err == nil {
				swap, serr := swapOf(c, tt.capacity)
				if err = serr; err == nil && (swap.Limited != tt.limited || swap.Capacity != tt.capacity) {
					t.Errorf("swap is %+v, want limited %v of %d", swap, tt.limited, tt.capacity)
				}
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}
