package scheduler_test

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const driver = "toys.example.com"

// toys is a node's pool of devices, each with a size.
func toys(node string, sizes map[string]int64) *resourceapi.ResourceSlice {
	s := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-toys"}}
	s.Spec = resourceapi.ResourceSliceSpec{Driver: driver, NodeName: &node, Pool: resourceapi.ResourcePool{Name: node, ResourceSliceCount: 1}}
	names := make([]string, 0, len(sizes))
	for name := range sizes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s.Spec.Devices = append(s.Spec.Devices, resourceapi.Device{Name: name, Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"size": {IntValue: ptr.To(sizes[name])}}})
	}
	return s
}

func class(name, expression string) *resourceapi.DeviceClass {
	c := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec.Selectors = []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: expression}}}
	return c
}

func claim(name string, requests ...resourceapi.DeviceRequest) *resourceapi.ResourceClaim {
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)}}
	c.Spec.Devices.Requests = requests
	return c
}

func one(class string, change ...func(*resourceapi.ExactDeviceRequest)) resourceapi.DeviceRequest {
	r := &resourceapi.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: 1}
	for _, f := range change {
		f(r)
	}
	return resourceapi.DeviceRequest{Name: "toy", Exactly: r}
}

func uses(claims ...string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		for _, name := range claims {
			p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, v1.PodResourceClaim{Name: name, ResourceClaimName: &name})
		}
	}
}

// got are the devices of a claim and the pods that it is reserved for.
func (c *cluster) got(name string) (devices, pods []string) {
	c.t.Helper()
	o, err := c.client.ResourceV1().ResourceClaims("default").Get(c.ctx, name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if a := o.Status.Allocation; a != nil {
		for _, r := range a.Devices.Results {
			devices = append(devices, r.Pool+"/"+r.Device)
		}
		if !slices.Contains(o.Finalizers, resourceapi.Finalizer) {
			c.t.Errorf("claim %s is allocated and has the finalizers %v", name, o.Finalizers)
		}
	}
	for _, r := range o.Status.ReservedFor {
		pods = append(pods, r.Name)
	}
	return devices, pods
}

func (c *cluster) wantClaim(name string, devices, pods []string) {
	c.t.Helper()
	if d, p := c.got(name); !slices.Equal(d, devices) || !slices.Equal(p, pods) {
		c.t.Errorf("claim %s has the devices %v for the pods %v, want %v for %v", name, d, p, devices, pods)
	}
}

func TestDevices(t *testing.T) {
	big := func(r *resourceapi.ExactDeviceRequest) {
		r.Selectors = []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: `device.attributes["toys.example.com"].size > 5`}}}
	}
	all := class("toy", `device.driver == "toys.example.com"`)
	small := toys("small", map[string]int64{"s1": 1, "s2": 2})
	large := toys("large", map[string]int64{"l1": 9})
	base := []runtime.Object{node("bare", "4"), node("small", "4"), node("large", "4"), all, small, large}
	for _, tc := range []struct {
		name    string
		objects []runtime.Object
		claim   *resourceapi.ResourceClaim
		node    string // empty: none
		devices []string
		why     string
	}{
		{name: "the node that has one of the size", claim: claim("c", one("toy", big)), node: "large", devices: []string{"large/l1"}},
		{name: "two at once", claim: claim("c", one("toy", func(r *resourceapi.ExactDeviceRequest) { r.Count = 2 })), node: "small", devices: []string{"small/s1", "small/s2"}},
		{name: "too many", claim: claim("c", one("toy", func(r *resourceapi.ExactDeviceRequest) { r.Count = 3 })), why: "cannot allocate all claims"},
		{name: "no such class", claim: claim("c", one("other")), why: "request toy: device class other does not exist"},
		{name: "the first that is available", node: "small", devices: []string{"small/s1", "small/s2"}, claim: claim("c", resourceapi.DeviceRequest{Name: "toy", FirstAvailable: []resourceapi.DeviceSubRequest{
			{Name: "many", DeviceClassName: "toy", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: 9},
			{Name: "two", DeviceClassName: "toy", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: 2},
		}})},
		{name: "a device with a taint of a rule", claim: claim("c", one("toy", big)), why: "cannot allocate all claims", objects: []runtime.Object{taintRule("l1")}},
		{name: "another device with a taint", claim: claim("c", one("toy", big)), node: "large", devices: []string{"large/l1"}, objects: []runtime.Object{taintRule("s1")}},
		{name: "a taint that is tolerated", node: "large", devices: []string{"large/l1"}, objects: []runtime.Object{taintRule("l1")}, claim: claim("c", one("toy", big, func(r *resourceapi.ExactDeviceRequest) {
			r.Tolerations = []resourceapi.DeviceToleration{{Operator: resourceapi.DeviceTolerationOpExists}}
		}))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var objects []runtime.Object
			for _, o := range append(slices.Clone(base), tc.objects...) {
				objects = append(objects, o.DeepCopyObject())
			}
			c := start(t, append(objects, tc.claim)...)
			c.create(pod("p", "1", uses("c")))
			if tc.why != "" {
				if got := c.note("FailedScheduling"); !strings.Contains(got, tc.why) {
					t.Errorf("refused: %s, want %s", got, tc.why)
				}
				return
			}
			if got := c.until("p", "bound", bound).Spec.NodeName; got != tc.node {
				t.Errorf("bound to %s, want %s", got, tc.node)
			}
			c.wantClaim("c", tc.devices, []string{"p"})
		})
	}
}

func taintRule(device string) *resourceapi.DeviceTaintRule {
	r := &resourceapi.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "broken-" + device}}
	r.Spec = resourceapi.DeviceTaintRuleSpec{DeviceSelector: &resourceapi.DeviceTaintSelector{Driver: ptr.To(driver), Device: &device}, Taint: resourceapi.DeviceTaint{Key: "broken", Effect: resourceapi.DeviceTaintEffectNoSchedule}}
	return r
}

// TestDevicesAreGivenOutOnce lets pods compete for one device.
func TestDevicesAreGivenOutOnce(t *testing.T) {
	admin := claim("admin", one("toy", func(r *resourceapi.ExactDeviceRequest) { r.AdminAccess = ptr.To(true) }))
	c := start(t, node("n1", "8"), class("toy", "true"), toys("n1", map[string]int64{"t": 1}), claim("first", one("toy")), claim("second", one("toy")), admin)
	c.create(pod("a", "1", uses("first")))
	c.until("a", "bound", bound)
	c.create(pod("shares", "1", uses("first")))
	c.until("shares", "bound", bound)
	c.wantClaim("first", []string{"n1/t"}, []string{"a", "shares"})
	c.create(pod("b", "1", uses("second")))
	if got := c.note("FailedScheduling"); !strings.Contains(got, "cannot allocate all claims") {
		t.Errorf("refused: %s", got)
	}
	c.create(pod("watcher", "1", uses("admin")))
	c.until("watcher", "bound: access for administration takes nothing away", bound)

	o, err := c.client.ResourceV1().ResourceClaims("default").Get(c.ctx, "first", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Status.Allocation, o.Status.ReservedFor = nil, nil
	if _, err := c.client.ResourceV1().ResourceClaims("default").UpdateStatus(c.ctx, o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until("b", "bound when the device is free", bound)
	c.wantClaim("second", []string{"n1/t"}, []string{"b"})
}

// TestDevicesOfTemplates waits for the claim that a controller makes.
func TestDevicesOfTemplates(t *testing.T) {
	c := start(t, node("n1", "8"), class("toy", "true"), toys("n1", map[string]int64{"t": 1}))
	p := pod("p", "1", func(p *v1.Pod) {
		p.Spec.ResourceClaims = []v1.PodResourceClaim{{Name: "toy", ResourceClaimTemplateName: ptr.To("template")}}
	})
	c.create(p)
	made := claim("made", one("toy"))
	made.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, v1.SchemeGroupVersion.WithKind("Pod"))}
	if _, err := c.client.ResourceV1().ResourceClaims("default").Create(c.ctx, made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p = p.DeepCopy()
	p.ResourceVersion = "2"
	p.Status.ResourceClaimStatuses = []v1.PodResourceClaimStatus{{Name: "toy", ResourceClaimName: ptr.To("made")}}
	if _, err := c.client.CoreV1().Pods("default").UpdateStatus(c.ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until("p", "bound", bound)
	c.wantClaim("made", []string{"n1/t"}, []string{"p"})
}
