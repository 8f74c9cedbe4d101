package kubelet

import (
	"errors"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// oomGroup tells whether a container out of memory ends as a whole, on a machine that
// can do so or not: a program that lost one of its processes seldom goes on well.
func oomGroup(c *kubeletv1beta1.KubeletConfiguration, able bool) (bool, error) {
	single := c.SingleProcessOOMKill
	if single != nil && !*single && !able {
		return false, errors.New("singleProcessOOMKill false: the kernel ends whole containers only with cgroup v2 that counts memory: leave it out")
	}
	return able && (single == nil || !*single), nil
}
