package kubelet

import (
	"errors"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/cgroups"
	"skiff/kubelet/config"
	"skiff/kubelet/resources"
)

// swapOf is what a node with so much swap lets its containers have of it.
func swapOf(c *kubeletv1beta1.KubeletConfiguration, capacity int64) (resources.Swap, error) {
	if capacity > 0 && *c.FailSwapOn {
		return resources.Swap{}, errors.New("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false (failSwapOn: false in the KubeletConfiguration)")
	}
	unified, accounted := cgroups.SwapLimits("")
	return resources.Swap{
		Limited: c.MemorySwap.SwapBehavior == config.LimitedSwap, Capacity: capacity, Unified: unified, Accounted: accounted,
	}, nil
}
