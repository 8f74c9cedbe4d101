package noderesources

import (
	"context"
	"math"

	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// BalancedName is the name of the balanced allocation plugin.
const BalancedName = "NodeResourcesBalancedAllocation"

// Balanced prefers nodes whose resources become more evenly used by the pod.
type Balanced struct{ resources []configv1.ResourceSpec }

// NewBalanced makes the plugin from NodeResourcesBalancedAllocationArgs.
func NewBalanced(args any, _ framework.Handle) (framework.Plugin, error) {
	p := &Balanced{resources: defaultResources()}
	if a, ok := args.(*configv1.NodeResourcesBalancedAllocationArgs); ok && a != nil && len(a.Resources) > 0 {
		p.resources = weighted(a.Resources)
	}
	return p, nil
}

// Name is the plugin's name.
func (*Balanced) Name() string { return BalancedName }

// PreScore leaves pods out that request nothing: they change no balance.
func (p *Balanced) PreScore(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	r := &pod.Requests
	if r.MilliCPU == 0 && r.Memory == 0 && r.EphemeralStorage == 0 && len(r.Scalar) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	return nil
}

// Score compares the deviation of the used fractions with the pod and without
// it: 75 is no change, 100 the most that a node can gain.
func (p *Balanced) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	with, without := loads(p.resources, pod, node, false)
	gain := deviation(without) - deviation(with)
	return int64(math.Round((0.75 + gain/2) * float64(framework.MaxNodeScore))), nil
}

// deviation is the standard deviation of the used fractions, at most one half.
func deviation(ls []load) float64 {
	if len(ls) < 2 {
		return 0
	}
	var sum, squares float64
	fractions := make([]float64, len(ls))
	for i, l := range ls {
		fractions[i] = min(float64(l.requested)/float64(l.allocatable), 1)
		sum += fractions[i]
	}
	avg := sum / float64(len(ls))
	for _, f := range fractions {
		squares += (f - avg) * (f - avg)
	}
	return math.Sqrt(squares / float64(len(ls)))
}
