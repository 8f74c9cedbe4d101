package dynamicresources

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const toy, doll = "example.com/toy", "example.com/doll"

// box is a container that asks for resources.
func box(name string, kv ...any) v1.Container {
	c := v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}}}
	for i := 0; i < len(kv); i += 2 {
		c.Resources.Requests[v1.ResourceName(kv[i].(string))] = *resource.NewQuantity(int64(kv[i+1].(int)), resource.DecimalSI)
	}
	return c
}

func sidecar(c v1.Container) v1.Container {
	c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	return c
}

func TestForResources(t *testing.T) {
	for _, tc := range []struct {
		name             string
		init, containers []v1.Container
		requests         string // NAME=COUNT of CLASS
		mappings         string // CONTAINER:RESOURCE>REQUEST
	}{
		{name: "one", containers: []v1.Container{box("a", toy, 1)},
			requests: "container-0-request-1=1 of toys", mappings: "a:toy>container-0-request-1"},
		{name: "none in one of two", containers: []v1.Container{box("a"), box("b", toy, 2), box("c", toy, 0)},
			requests: "container-1-request-1=2 of toys", mappings: "b:toy>container-1-request-1"},
		{name: "two resources", containers: []v1.Container{box("a", toy, 1, doll, 3)},
			requests: "container-0-request-1=3 of dolls container-0-request-2=1 of toys", mappings: "a:doll>container-0-request-1 a:toy>container-0-request-2"},
		{name: "an init container has those of the containers", init: []v1.Container{box("i", toy, 1)}, containers: []v1.Container{box("a", toy, 2)},
			requests: "container-1-request-1=2 of toys", mappings: "a:toy>container-1-request-1 i:toy>container-1-request-1"},
		{name: "an init container that needs more", init: []v1.Container{box("i", toy, 5)}, containers: []v1.Container{box("a", toy, 2), box("b", toy, 1)},
			requests: "container-0-request-1=2 of toys container-1-request-1=2 of toys container-2-request-1=1 of toys",
			mappings: "a:toy>container-1-request-1 b:toy>container-2-request-1 i:toy>container-1-request-1 i:toy>container-2-request-1 i:toy>container-0-request-1"},
		{name: "init containers share what they need beyond", init: []v1.Container{box("i", toy, 1), box("j", toy, 3)}, containers: []v1.Container{box("a")},
			requests: "container-1-request-1=3 of toys", mappings: "i:toy>container-1-request-1 j:toy>container-1-request-1"},
		{name: "a sidecar keeps its own", init: []v1.Container{sidecar(box("s", toy, 1)), box("i", toy, 1)}, containers: []v1.Container{box("a")},
			requests: "container-0-request-1=1 of toys container-1-request-1=1 of toys", mappings: "s:toy>container-0-request-1 i:toy>container-1-request-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}, Spec: v1.PodSpec{InitContainers: tc.init, Containers: tc.containers}}
			claim, mappings := forResources(pod, map[v1.ResourceName]string{toy: "toys", doll: "dolls"})
			var requests, gives []string
			for _, r := range claim.Spec.Devices.Requests {
				requests = append(requests, fmt.Sprintf("%s=%d of %s", r.Name, r.Exactly.Count, r.Exactly.DeviceClassName))
			}
			for _, m := range mappings {
				gives = append(gives, m.ContainerName+":"+strings.TrimPrefix(m.ResourceName, "example.com/")+">"+m.RequestName)
			}
			if d := cmp.Diff([]string{tc.requests, tc.mappings}, []string{strings.Join(requests, " "), strings.Join(gives, " ")}); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if !metav1.IsControlledBy(claim, pod) || claim.GenerateName != "p-extended-resources-" || claim.Annotations["resource.kubernetes.io/extended-resource-claim"] != "true" {
				t.Errorf("claim %+v", claim.ObjectMeta)
			}
		})
	}
}
