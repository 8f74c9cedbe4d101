package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	health "k8s.io/kubelet/pkg/apis/dra-health/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"skiff/testdata/deviceplugin"
	"skiff/testdata/dradriver"
)

const toy = "example.com/toy"

// toyPod asks for a toy, and stays.
func toyPod(name, extra string) string {
	return pod(name, "", "      resources: {limits: {"+toy+": 1}}\n"+extra)
}

// devicePlugin offers devices of the first node: the node shows them, pods get
// them, and a killed skiff remembers who has which.
//
// Covers: node.device-plugins
func devicePlugin(s *space) {
	p := &deviceplugin.Plugin{Resource: toy, Dir: filepath.Join(s.Root, "var/lib/kubelet/device-plugins")}
	p.Set(deviceplugin.Device("t1", pluginapi.Healthy), deviceplugin.Device("t2", pluginapi.Healthy))
	start := func() func() {
		s.t.Helper()
		stop, err := p.Start(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		return stop
	}
	stop := start()
	defer func() { stop() }()
	allocatable := func(n string) {
		s.t.Helper()
		s.until(30*time.Second, n, "get", "nodes", "-o", `jsonpath={.items[*].status.allocatable.example\.com/toy}`)
	}
	allocatable("2")

	s.apply(toyPod("one", ""))
	s.apply(toyPod("two", ""))
	s.ready("pod/one", "pod/two")
	toys := func(name string) string {
		s.t.Helper()
		return strings.TrimSpace(s.run("exec", name, "--", "/probe", "env", "TOYS"))
	}
	one, two := toys("one"), toys("two")
	if one == two || one == "" || two == "" {
		s.t.Errorf("the pods have the toys %q and %q, want one each", one, two)
	}
	s.run("exec", "one", "--", "/probe", "write", "/dev/toy", "x")
	s.apply(toyPod("three", ""))
	s.until(30*time.Second, "Insufficient example.com/toy", "get", "events", "--field-selector", "involvedObject.name=three", "-o", "custom-columns=M:.message")
	// A pod that goes round the scheduler is refused by the node.
	node := s.field("pod/one", ".spec.nodeName")
	s.apply(strings.Replace(toyPod("pushy", ""), "spec:\n", "spec:\n  nodeName: "+node+"\n", 1))
	s.until(30*time.Second, "UnexpectedAdmissionError", "get", "pod", "pushy", "-o", "jsonpath={.status.reason}: {.status.message}")
	s.says([]string{"requested number of devices unavailable for example.com/toy. Requested: 1, Available: 0"}, "get", "pod", "pushy", "-o", "jsonpath={.status.message}")

	if got := podResources(s)["one"]; got != toy+"="+one {
		s.t.Errorf("the pod resources of the first pod are %q, want %s=%s", got, toy, one)
	}
	p.Set(deviceplugin.Device(one, pluginapi.Unhealthy), deviceplugin.Device(two, pluginapi.Healthy))
	allocatable("1")
	s.until(30*time.Second, "Unhealthy", "get", "pod", "one", "-o", "jsonpath={.status.containerStatuses[0].allocatedResourcesStatus}")
	p.Set(deviceplugin.Device(one, pluginapi.Healthy), deviceplugin.Device(two, pluginapi.Healthy))
	allocatable("2")

	s.kill(s.t)
	stop()
	s.up(s.t)
	stop = start()
	allocatable("2")
	if a, b := toys("one"), toys("two"); a != one || b != two {
		s.t.Errorf("after a kill the pods have the toys %q and %q, want %q and %q", a, b, one, two)
	}
	// The toy that was given back goes to the pod that waits, and only it.
	s.run("delete", "pod", "two", "pushy")
	s.ready("pod/three")
	if got := toys("three"); got != two {
		s.t.Errorf("the third pod has the toy %q, want %q", got, two)
	}
}

// podResources asks the first node what the namespace's pods have.
func podResources(s *space) map[string]string {
	s.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(s.Root, "var/lib/kubelet/pod-resources/kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	list, err := podresources.NewPodResourcesListerClient(conn).List(context.Background(), &podresources.ListPodResourcesRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range list.PodResources {
		for _, c := range p.Containers {
			for _, d := range c.Devices {
				if p.Namespace == s.name {
					out[p.Name] += d.ResourceName + "=" + strings.Join(d.DeviceIds, ",")
				}
			}
		}
	}
	return out
}

// toyDriver is a DRA driver on the first node, with devices.
func toyDriver(s *space, devices ...string) (d *dradriver.Driver, node string, stop func()) {
	s.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	d = &dradriver.Driver{Name: "toys.example.com", Kubelet: filepath.Join(s.Root, "var/lib/kubelet"), CDI: filepath.Join(s.Root, "var/run/cdi"), Client: client}
	if stop, err = d.Start(); err != nil {
		s.t.Fatal(err)
	}
	node = s.run("get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "jsonpath={.items[0].metadata.name}")
	if err := d.Publish(context.Background(), node, devices...); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if out, err := s.try("", "delete", "resourceslices,deviceclasses", "--all"); err != nil {
			s.t.Errorf("delete the devices: %v: %s", err, out)
		}
	})
	return d, node, stop
}

// claimsGone waits until the driver has nothing to do, and no claim is left.
func claimsGone(s *space, d *dradriver.Driver) {
	s.t.Helper()
	s.eventually(30*time.Second, "all claims unprepared and gone", func() error {
		if left := d.Prepared(); len(left) > 0 {
			return fmt.Errorf("prepared: %v", left)
		}
		out, err := s.try("", "get", "resourceclaims", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" && !strings.Contains(out, "No resources") {
			err = errors.New(out)
		}
		return err
	})
}

// claimedDevices has a pod use devices of a DRA driver on the first node: of a
// claim made from a template, through a kill of skiff, until the pod is gone.
//
// Covers: node.dra
func claimedDevices(s *space) {
	d, node, stop := toyDriver(s, "t1")
	defer func() { stop() }()
	s.apply(`apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: toys}
spec: {selectors: [{cel: {expression: 'device.driver == "toys.example.com"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: toy}
spec: {spec: {devices: {requests: [{name: toy, exactly: {deviceClassName: toys}}]}}}
`)
	claimed := func(name string) string {
		return pod(name, "", "      resources: {claims: [{name: toy}]}\n  resourceClaims: [{name: toy, resourceClaimTemplateName: toy}]\n")
	}
	s.apply(claimed("one"))
	s.ready("pod/one")
	toy := func(name string) {
		s.t.Helper()
		// Ready outlives skiff: its node agent may not serve yet.
		s.until(20*time.Second, "t1", "exec", name, "--", "/probe", "env", "TOY_TOY")
	}
	toy("one")
	s.says([]string{"allocated,reserved"}, "get", "resourceclaims")
	s.apply(claimed("two"))
	s.until(30*time.Second, "cannot allocate all claims", "get", "events", "--field-selector", "involvedObject.name=two", "-o", "custom-columns=M:.message")
	d.SetHealth(node+"/t1", health.HealthStatus_UNHEALTHY)
	s.until(30*time.Second, "Unhealthy", "get", "pod", "one", "-o", "jsonpath={.status.containerStatuses[0].allocatedResourcesStatus}")

	s.kill(s.t)
	s.up(s.t)
	toy("one")
	if n := len(d.Prepared()); n != 1 {
		s.t.Errorf("after a kill %d claims are prepared, want 1", n)
	}
	s.run("delete", "pod", "one")
	s.ready("pod/two")
	toy("two")
	s.apply(`apiVersion: resource.k8s.io/v1
kind: DeviceTaintRule
metadata: {name: broken}
spec: {deviceSelector: {driver: toys.example.com}, taint: {key: broken, effect: NoExecute}}
`)
	s.gone(60*time.Second, "pod/two")
	s.until(30*time.Second, "False: 1 pod evicted", "get", "devicetaintrule", "broken", "-o", `jsonpath={.status.conditions[?(@.type=="EvictionInProgress")].status}: {.status.conditions[?(@.type=="EvictionInProgress")].message}`)
	s.run("delete", "devicetaintrule", "broken")
	claimsGone(s, d)
}

// extendedResources has pods ask a DRA driver's devices as extended resources, by
// the name that the class gives and by its own, through a kill of skiff.
//
// Covers: node.dra
func extendedResources(s *space) {
	d, node, stop := toyDriver(s, "t1", "t2")
	defer stop()
	s.apply(`apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: wooden}
spec: {extendedResourceName: wood.example.com/toy, selectors: [{cel: {expression: 'device.driver == "toys.example.com"'}}]}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: toys}
spec: {hard: {wooden.deviceclass.resource.k8s.io/devices: 3, requests.wood.example.com/toy: 9}}
`)
	asks := func(name, resource string) string {
		return pod(name, "", "      resources: {limits: {"+resource+": 1}}\n")
	}
	s.apply(asks("named", "wood.example.com/toy"))
	s.apply(asks("implicit", "deviceclass.resource.kubernetes.io/wooden"))
	s.ready("pod/named", "pod/implicit")
	toy := func(name string) string {
		s.t.Helper()
		var out string
		s.eventually(20*time.Second, "the toy of "+name, func() (err error) {
			out, err = s.try("", "exec", name, "--", "/probe", "env", "TOY_CONTAINER_0_REQUEST_0")
			return err
		})
		return strings.TrimSpace(out)
	}
	one, two := toy("named"), toy("implicit")
	if one == two || one == "" || two == "" {
		s.t.Errorf("the pods have the toys %q and %q, want one each", one, two)
	}
	if got := s.field("pod/named", ".status.extendedResourceClaimStatus.requestMappings[0].resourceName"); got != "wood.example.com/toy" {
		s.t.Errorf("the claim gives %q", got)
	}
	s.says([]string{"named-extended-resources-", "allocated,reserved"}, "get", "resourceclaims")
	s.until(30*time.Second, "2 3", "get", "resourcequota", "toys", "-o", `jsonpath={.status.used.wooden\.deviceclass\.resource\.k8s\.io/devices} {.status.used.requests\.wood\.example\.com/toy}`)
	d.SetHealth(node+"/"+one, health.HealthStatus_UNHEALTHY)
	s.until(30*time.Second, "wood.example.com/toy Unhealthy", "get", "pod", "named", "-o", "jsonpath={.status.containerStatuses[0].allocatedResourcesStatus[0].name} {.status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health}")
	s.apply(asks("third", "wood.example.com/toy"))
	s.until(30*time.Second, "cannot allocate all claims", "get", "events", "--field-selector", "involvedObject.name=third", "-o", "custom-columns=M:.message")

	s.kill(s.t)
	s.up(s.t)
	if got := toy("named"); got != one {
		s.t.Errorf("after a kill the pod has the toy %q, want %q", got, one)
	}
	s.run("delete", "pod", "named")
	s.ready("pod/third")
	if got := toy("third"); got != one {
		s.t.Errorf("the third pod has the toy %q, want %q", got, one)
	}
	s.run("delete", "pod", "third", "implicit")
	claimsGone(s, d)
}

// devicesBeforeBinding has a pod wait, unbound, for a device that is attached to the
// node for it; one that fails is given back.
//
// Covers: node.dra
func devicesBeforeBinding(s *space) {
	d, node, stop := toyDriver(s)
	defer stop()
	s.apply(`apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: fabric}
spec:
  driver: toys.example.com
  nodeName: ` + node + `
  pool: {name: fabric, generation: 1, resourceSliceCount: 1}
  devices: [{name: far, bindsToNode: true, bindingConditions: [Attached], bindingFailureConditions: [Broken]}]
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: toys}
spec: {selectors: [{cel: {expression: 'device.driver == "toys.example.com"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: far}
spec: {devices: {requests: [{name: toy, exactly: {deviceClassName: toys}}]}}
`)
	s.apply(pod("one", "", "      resources: {claims: [{name: toy}]}\n  resourceClaims: [{name: toy, resourceClaimName: far}]\n"))
	events := func(text string) {
		s.t.Helper()
		s.until(30*time.Second, text, "get", "events", "--field-selector", "involvedObject.name=one", "-o", "custom-columns=M:.message")
	}
	events("waiting for binding conditions for device on node " + node)
	says := func(condition string) {
		s.t.Helper()
		s.eventually(30*time.Second, "a new allocation", func() error {
			out, err := s.try("", "get", "resourceclaim", "far", "-o", "jsonpath={.status.allocation.devices.results[0].device}/{.status.devices}")
			if err == nil && strings.TrimSpace(out) != "far/" {
				err = errors.New(out)
			}
			return err
		})
		s.run("patch", "resourceclaim", "far", "--subresource=status", "--type=merge", "-p", `{"status": {"devices": [{"driver": "toys.example.com", "pool": "fabric", "device": "far",
			"conditions": [{"type": "`+condition+`", "status": "True", "reason": "Fabric", "message": "a cable", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}]}}`)
	}
	says("Broken")
	// An earlier event of a failed attempt would only be counted on.
	s.eventually(30*time.Second, "the failed binding", func() error {
		const text = `claim far binding failed: reason=Fabric, message="a cable"`
		condition, err := s.try("", "get", "pod", "one", "-o", `jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}`)
		if err != nil || strings.Contains(condition, text) {
			return err
		}
		notes, err := s.try("", "get", "events", "--field-selector", "involvedObject.name=one", "-o", "custom-columns=M:.message")
		if err == nil && !strings.Contains(notes, text) {
			err = errors.New(condition + "\n" + notes)
		}
		return err
	})
	says("Attached")
	s.ready("pod/one")
	s.says([]string{"far"}, "exec", "one", "--", "/probe", "env", "TOY_TOY")
	s.run("delete", "pod/one", "resourceclaim/far")
	claimsGone(s, d)
}
