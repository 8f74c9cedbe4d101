package dynamicresources

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skiff/scheduler/framework"
)

// unmade is the name of a claim for extended resources that the API server does
// not have yet. No real claim can have it.
const unmade = "<extended-resources>"

// classesOf are the device classes that stand for extended resources of the pod
// (KEP-5004).
func (p *Plugin) classesOf(pod *framework.PodInfo) map[v1.ResourceName]string {
	out := map[v1.ResourceName]string{}
	for name, n := range pod.Requests.Scalar {
		if class := p.extended.For(name); n > 0 && class != nil {
			out[name] = class.Name
		}
	}
	return out
}

// missing are the resources that no device plugin of the node offers.
func missing(classes map[v1.ResourceName]string, node *framework.Resource) map[v1.ResourceName]string {
	out := map[v1.ResourceName]string{}
	for name, class := range classes {
		if node.Get(name) == 0 {
			out[name] = class
		}
	}
	return out
}

// madeFor is the claim for extended resources of the pod, nil for none.
func madeFor(pod *v1.Pod, claims []*resourceapi.ResourceClaim) *resourceapi.ResourceClaim {
	for _, claim := range claims {
		if claim.Namespace == pod.Namespace && claim.Annotations[resourceapi.ExtendedResourceClaimAnnotation] == "true" && metav1.IsControlledBy(claim, pod) {
			return claim
		}
	}
	return nil
}

// forResources is the claim for devices in place of the pod's extended resources,
// with what it gives to the containers.
func forResources(pod *v1.Pod, classes map[v1.ResourceName]string) (*resourceapi.ResourceClaim, []v1.ContainerExtendedResourceRequest) {
	claim := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: unmade, UID: unmadeUID(pod), GenerateName: pod.Name + "-extended-resources-",
		Annotations: map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: ptr.To(true),
		}},
	}}
	var mappings []v1.ContainerExtendedResourceRequest
	for _, name := range slices.Sorted(maps.Keys(classes)) {
		requests, gives := forResource(pod, name, classes[name])
		claim.Spec.Devices.Requests = append(claim.Spec.Devices.Requests, requests...)
		mappings = append(mappings, gives...)
	}
	slices.SortFunc(claim.Spec.Devices.Requests, func(a, b resourceapi.DeviceRequest) int { return strings.Compare(a.Name, b.Name) })
	return claim, mappings
}

// unmadeUID tells the claims of several pods apart before they have their own.
func unmadeUID(pod *v1.Pod) types.UID { return types.UID(unmade + "/" + string(pod.UID)) }

// forResource asks for the devices of one resource. Init containers that end have
// those of the containers after them, and share what they need beyond.
func forResource(pod *v1.Pod, name v1.ResourceName, class string) (requests []resourceapi.DeviceRequest, mappings []v1.ContainerExtendedResourceRequest) {
	all := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	ends := func(i int) bool {
		return i < len(pod.Spec.InitContainers) && ptr.Deref(all[i].RestartPolicy, "") != v1.ContainerRestartPolicyAlways
	}
	ask := func(i int, n int64) resourceapi.DeviceRequest {
		return resourceapi.DeviceRequest{Name: requestName(i, &all[i], name), Exactly: &resourceapi.ExactDeviceRequest{
			DeviceClassName: class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: n,
		}}
	}
	give := func(i int, request string) v1.ContainerExtendedResourceRequest {
		return v1.ContainerExtendedResourceRequest{ContainerName: all[i].Name, ResourceName: string(name), RequestName: request}
	}
	kept := map[int]resourceapi.DeviceRequest{}
	for i := range all {
		if n := amount(&all[i], name); n > 0 && !ends(i) {
			kept[i] = ask(i, n)
			requests = append(requests, kept[i])
			mappings = append(mappings, give(i, kept[i].Name))
		}
	}
	// shared is what an init container needs most beyond the devices of others.
	var shared resourceapi.DeviceRequest
	var sharing []int
	for i := range pod.Spec.InitContainers {
		left := amount(&all[i], name)
		if left == 0 || !ends(i) {
			continue
		}
		for j := i; j < len(all) && left > 0; j++ {
			if later, ok := kept[j]; ok {
				mappings = append(mappings, give(i, later.Name))
				left -= later.Exactly.Count
			}
		}
		if left <= 0 {
			continue
		}
		sharing = append(sharing, i)
		if shared.Exactly == nil || left > shared.Exactly.Count {
			shared = ask(i, left)
		}
	}
	if shared.Exactly != nil {
		requests = append(requests, shared)
		for _, i := range sharing {
			mappings = append(mappings, give(i, shared.Name))
		}
	}
	return requests, mappings
}

func amount(c *v1.Container, name v1.ResourceName) int64 {
	q := c.Resources.Requests[name]
	return q.Value()
}

// requestName is by the place of the container in the pod and of the resource in
// the container's requests.
func requestName(i int, c *v1.Container, name v1.ResourceName) string {
	at := slices.Index(slices.Sorted(maps.Keys(c.Resources.Requests)), name)
	return fmt.Sprintf("container-%d-request-%d", i, at)
}
