package scheduler_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
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

// TestDevicesThatArePreparedBeforeBinding has pods wait for conditions of a device.
func TestDevicesThatArePreparedBeforeBinding(t *testing.T) {
	slow := toys("n1", map[string]int64{"t": 1})
	slow.Spec.Devices[0].BindsToNode = ptr.To(true)
	slow.Spec.Devices[0].BindingConditions, slow.Spec.Devices[0].BindingFailureConditions = []string{"Attached"}, []string{"Broken"}
	says := func(c *cluster, condition string) {
		t.Helper()
		if got, want := c.note("BindingConditionsPending"), "waiting for binding conditions for device on node n1"; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
		o, err := c.client.ResourceV1().ResourceClaims("default").Get(c.ctx, "c", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if o.Status.Allocation == nil || len(o.Status.ReservedFor) != 1 {
			t.Fatalf("the pod waits for a claim with the status %+v", o.Status)
		}
		if p, err := c.client.CoreV1().Pods("default").Get(c.ctx, "p", metav1.GetOptions{}); err != nil || bound(p) {
			t.Errorf("bound before the device is ready: %v", err)
		}
		o.Status.Devices = []resourceapi.AllocatedDeviceStatus{{Driver: driver, Pool: "n1", Device: "t", Conditions: []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Reason: "Fabric", Message: "text"}}}}
		if _, err := c.client.ResourceV1().ResourceClaims("default").UpdateStatus(c.ctx, o, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("ready", func(t *testing.T) {
		c := start(t, node("n1", "4"), class("toy", "true"), slow.DeepCopy(), claim("c", one("toy")))
		c.create(pod("p", "1", uses("c")))
		says(c, "Attached")
		c.until("p", "bound", bound)
		c.wantClaim("c", []string{"n1/t"}, []string{"p"})
	})
	t.Run("failed", func(t *testing.T) {
		c := start(t, node("n1", "4"), class("toy", "true"), slow.DeepCopy(), claim("c", one("toy")))
		w, err := c.client.ResourceV1().ResourceClaims("default").Watch(c.ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		c.create(pod("p", "1", uses("c")))
		says(c, "Broken")
		given := false
		for e := range w.ResultChan() {
			o, is := e.Object.(*resourceapi.ResourceClaim)
			if !is {
				continue
			}
			given = given || len(o.Status.ReservedFor) > 0
			if !given || len(o.Status.ReservedFor) > 0 {
				continue
			}
			// The pod's reservation and the allocation go at once.
			if o.Status.Allocation != nil || len(o.Status.Devices) > 0 {
				t.Errorf("the claim that was given back has the status %+v", o.Status)
			}
			break
		}
		// It is tried again, and may be ready then.
		says(c, "Attached")
		c.until("p", "bound", bound)
	})
}

// TestDevicesThatShare has claims share a device's counters, or its capacity.
func TestDevicesThatShare(t *testing.T) {
	parts := toys("n1", map[string]int64{"whole": 2, "half-1": 1, "half-2": 1})
	parts.Spec.Pool.ResourceSliceCount = 2
	counters := parts.DeepCopy()
	counters.Name, counters.Spec.Devices = "n1-counters", nil
	counters.Spec.SharedCounters = []resourceapi.CounterSet{{Name: "wood", Counters: map[string]resourceapi.Counter{"kg": {Value: resource.MustParse("2")}}}}
	for i := range parts.Spec.Devices {
		d := &parts.Spec.Devices[i]
		d.ConsumesCounters = []resourceapi.DeviceCounterConsumption{{CounterSet: "wood", Counters: map[string]resourceapi.Counter{"kg": {Value: *resource.NewQuantity(*d.Attributes["size"].IntValue, resource.DecimalSI)}}}}
	}
	shared := toys("n1", map[string]int64{"box": 1})
	shared.Spec.Devices[0].AllowMultipleAllocations = ptr.To(true)
	shared.Spec.Devices[0].Capacity = map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"room": {Value: resource.MustParse("10")}}
	room := func(n string) func(*resourceapi.ExactDeviceRequest) {
		return func(r *resourceapi.ExactDeviceRequest) {
			r.Capacity = &resourceapi.CapacityRequirements{Requests: map[resourceapi.QualifiedName]resource.Quantity{"room": resource.MustParse(n)}}
		}
	}
	size := func(n string) func(*resourceapi.ExactDeviceRequest) {
		return func(r *resourceapi.ExactDeviceRequest) {
			r.Selectors = []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: `device.attributes["toys.example.com"].size == ` + n}}}
		}
	}
	for _, tc := range []struct {
		name                string
		slices              []runtime.Object
		first, second, last func(*resourceapi.ExactDeviceRequest)
	}{
		{name: "halves of a device", slices: []runtime.Object{parts, counters}, first: size("1"), second: size("1"), last: size("2")},
		{name: "the room in one", slices: []runtime.Object{shared}, first: room("6"), second: room("4"), last: room("1")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects := []runtime.Object{node("n1", "8"), class("toy", "true"), claim("first", one("toy", tc.first)), claim("second", one("toy", tc.second)), claim("last", one("toy", tc.last))}
			for _, o := range tc.slices {
				objects = append(objects, o.DeepCopyObject())
			}
			c := start(t, objects...)
			for _, name := range []string{"first", "second"} {
				c.create(pod(name, "1", uses(name)))
				c.until(name, "bound", bound)
			}
			c.create(pod("last", "1", uses("last")))
			if got := c.note("FailedScheduling"); !strings.Contains(got, "cannot allocate all claims") {
				t.Errorf("refused: %s", got)
			}
			for _, name := range []string{"first", "second"} {
				o, err := c.client.ResourceV1().ResourceClaims("default").Get(c.ctx, name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				o.Status = resourceapi.ResourceClaimStatus{}
				if _, err := c.client.ResourceV1().ResourceClaims("default").UpdateStatus(c.ctx, o, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			c.until("last", "bound when the device is free", bound)
		})
	}
}

// TestExtendedResourcesOfDeviceClasses has pods ask for devices as for resources.
func TestExtendedResourcesOfDeviceClasses(t *testing.T) {
	toyClass := class("toy", "true")
	toyClass.Spec.ExtendedResourceName = ptr.To("example.com/toy")
	asks := func(name string, n int64) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests[v1.ResourceName(name)] = *resource.NewQuantity(n, resource.DecimalSI)
		}
	}
	offers := func(n *v1.Node) { n.Status.Allocatable["example.com/toy"] = resource.MustParse("3") }
	made := func(c *cluster) []resourceapi.ResourceClaim {
		t.Helper()
		list, err := c.client.ResourceV1().ResourceClaims("default").List(c.ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	for _, tc := range []struct {
		name, asks string
		count      int64
		node       string // empty: none
		devices    []string
	}{
		{name: "by name", asks: "example.com/toy", count: 2, node: "small", devices: []string{"s1", "s2"}},
		{name: "by the name of the class", asks: "deviceclass.resource.kubernetes.io/toy", count: 2, node: "small", devices: []string{"s1", "s2"}},
		{name: "of a device plugin", asks: "example.com/toy", count: 3, node: "plugin"},
		{name: "more than there are", asks: "example.com/toy", count: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t, node("bare", "4"), node("plugin", "1", offers), node("small", "4"), toyClass.DeepCopy(), toys("small", map[string]int64{"s1": 1, "s2": 2}))
			cpu := "1"
			if tc.node == "small" {
				cpu = "2" // the node of the plugin has one
			}
			c.create(pod("p", cpu, asks(tc.asks, tc.count)))
			if tc.node == "" {
				if got := c.note("FailedScheduling"); !strings.Contains(got, "cannot allocate all claims") || !strings.Contains(got, "Insufficient example.com/toy") {
					t.Errorf("refused: %s", got)
				}
				return
			}
			p := c.until("p", "bound", bound)
			if p.Spec.NodeName != tc.node {
				t.Errorf("bound to %s, want %s", p.Spec.NodeName, tc.node)
			}
			claims := made(c)
			if tc.devices == nil {
				if len(claims) > 0 || p.Status.ExtendedResourceClaimStatus != nil {
					t.Errorf("claims %v, status %v, for a resource of a device plugin", claims, p.Status.ExtendedResourceClaimStatus)
				}
				return
			}
			if len(claims) != 1 {
				t.Fatalf("claims %v, want one", claims)
			}
			var devices []string
			for _, r := range claims[0].Status.Allocation.Devices.Results {
				devices = append(devices, r.Device)
			}
			if o := claims[0]; !slices.Equal(devices, tc.devices) || !slices.Contains(o.Finalizers, resourceapi.Finalizer) || len(o.Status.ReservedFor) != 1 || !metav1.IsControlledBy(&o, p) {
				t.Errorf("claim %+v, want the devices %v", o, tc.devices)
			}
			want := &v1.PodExtendedResourceClaimStatus{ResourceClaimName: claims[0].Name, RequestMappings: []v1.ContainerExtendedResourceRequest{
				{ContainerName: "c", ResourceName: tc.asks, RequestName: "container-0-request-1"},
			}}
			if d := cmp.Diff(want, p.Status.ExtendedResourceClaimStatus); d != "" {
				t.Errorf("status (-want +got):\n%s", d)
			}
		})
	}
	t.Run("when the class comes", func(t *testing.T) {
		c := start(t, node("small", "4"), toys("small", map[string]int64{"s1": 1}))
		c.create(pod("p", "1", asks("example.com/toy", 1)))
		c.note("FailedScheduling")
		if _, err := c.client.ResourceV1().DeviceClasses().Create(c.ctx, toyClass.DeepCopy(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.until("p", "bound", bound)
		// Two pods do not get the same device.
		c.create(pod("q", "1", asks("example.com/toy", 1)))
		if got := c.note("FailedScheduling"); !strings.Contains(got, "cannot allocate all claims") {
			t.Errorf("refused: %s", got)
		}
	})
	t.Run("what an attempt that was cut off left", func(t *testing.T) {
		p := pod("p", "1", asks("example.com/toy", 1))
		left := claim("left", one("toy"))
		left.Annotations = map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"}
		left.Finalizers = []string{resourceapi.Finalizer}
		left.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, v1.SchemeGroupVersion.WithKind("Pod"))}
		c := start(t, node("small", "4"), toyClass.DeepCopy(), toys("small", map[string]int64{"s1": 1}), left)
		c.create(p)
		p = c.until("p", "bound", bound)
		if claims := made(c); len(claims) != 1 || claims[0].Name == "left" || claims[0].Name != p.Status.ExtendedResourceClaimStatus.ResourceClaimName {
			t.Errorf("claims %v, status %v", claims, p.Status.ExtendedResourceClaimStatus)
		}
	})
	t.Run("a mapping of an earlier attempt", func(t *testing.T) {
		c := start(t, node("plugin", "4", offers), toyClass.DeepCopy())
		c.create(pod("p", "1", asks("example.com/toy", 1), func(p *v1.Pod) {
			p.Status.ExtendedResourceClaimStatus = &v1.PodExtendedResourceClaimStatus{ResourceClaimName: "gone", RequestMappings: []v1.ContainerExtendedResourceRequest{
				{ContainerName: "c", ResourceName: "example.com/toy", RequestName: "container-0-request-1"},
			}}
		}))
		if p := c.until("p", "bound", bound); p.Status.ExtendedResourceClaimStatus != nil {
			t.Errorf("the pod keeps %v for a device of a plugin", p.Status.ExtendedResourceClaimStatus)
		}
	})
	t.Run("a binding that failed leaves nothing", func(t *testing.T) {
		c := start(t, node("small", "4"), toyClass.DeepCopy(), toys("small", map[string]int64{"s1": 1}))
		refused := false
		c.client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() == "binding" && !refused {
				refused = true
				return true, nil, errors.New("not now")
			}
			return false, nil, nil
		})
		c.create(pod("p", "1", asks("example.com/toy", 1)))
		p := c.until("p", "bound", bound)
		if claims := made(c); len(claims) != 1 || claims[0].Name != p.Status.ExtendedResourceClaimStatus.ResourceClaimName {
			t.Errorf("claims %v, status %v", claims, p.Status.ExtendedResourceClaimStatus)
		}
		if !refused {
			t.Error("the binding was never refused")
		}
	})
}
