package conformance

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// nodeEnvironment runs a pod that prints its environment, without a shell, which
// would drop names that it cannot use.
func nodeEnvironment(s *space, change func(*corev1.Pod)) []string {
	s.t.Helper()
	p := probePod("pod", "env")
	change(p)
	return strings.Split(s.output(p), "\n")
}

func nodeWants(t *testing.T, environment []string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !slices.Contains(environment, want) {
			t.Errorf("the environment lacks %q:\n%s", want, strings.Join(environment, "\n"))
		}
	}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

func resourceEnv(name, of string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: of},
	}}
}

// nodeData makes a ConfigMap and a Secret of the same name and data.
func nodeData(s *space, data map[string]string) {
	s.t.Helper()
	_, err := s.client.CoreV1().ConfigMaps(s.name).Create(s.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "data"}, Data: data}, metav1.CreateOptions{})
	s.must(err)
	_, err = s.client.CoreV1().Secrets(s.name).Create(s.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "data"}, StringData: data}, metav1.CreateOptions{})
	s.must(err)
}

// Conformance: [sig-node] ConfigMap should be consumable via environment variable
// Conformance: [sig-node] Secrets should be consumable from pods in env vars
func TestNodeEnvFromKeys(t *testing.T) {
	s := parallel(t)
	nodeData(s, map[string]string{"data-1": "value-1"})
	of := corev1.LocalObjectReference{Name: "data"}
	nodeWants(t, nodeEnvironment(s, func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "CONFIG_DATA_1", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: of, Key: "data-1"}}},
			{Name: "SECRET_DATA", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: of, Key: "data-1"}}},
		}
	}), "CONFIG_DATA_1=value-1", "SECRET_DATA=value-1")
}

// Each printable character other than = may begin a name, or be in its middle.
//
// Conformance: [sig-node] ConfigMap should be consumable via the environment
// Conformance: [sig-node] ConfigMap should be consumable as environment variable names with various prefixes
// Conformance: [sig-node] Secrets should be consumable via the environment
// Conformance: [sig-node] Secrets should be consumable as environment variable names variable names with various prefixes
func TestNodeEnvFromAll(t *testing.T) {
	s := parallel(t)
	nodeData(s, map[string]string{"data_1": "value-1", "data-2": "value-2", "data.3": "value-3"})
	of := corev1.LocalObjectReference{Name: "data"}
	var from []corev1.EnvFromSource
	var want []string
	add := func(prefix string, source corev1.EnvFromSource) {
		source.Prefix = prefix
		from = append(from, source)
		want = append(want, prefix+"data_1=value-1", prefix+"data-2=value-2", prefix+"data.3=value-3")
	}
	config := corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: of}}
	secret := corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: of}}
	add("", config)
	add("p-", config)
	for c := byte(' '); c <= '~'; c++ {
		if c != '=' {
			add(string(c)+"C"+string(c), config)
			add(string(c)+"S"+string(c), secret)
		}
	}
	nodeWants(t, nodeEnvironment(s, func(p *corev1.Pod) { p.Spec.Containers[0].EnvFrom = from }), want...)
}

// Conformance: [sig-node] Variable Expansion should allow composing env vars into new env vars
func TestNodeExpandEnv(t *testing.T) {
	s := parallel(t)
	nodeWants(t, nodeEnvironment(s, func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "FOO", Value: "foo-value"},
			{Name: "BAR", Value: "bar-value"},
			{Name: "FOOBAR", Value: "$(FOO);;$(BAR)"},
			{Name: "KEPT", Value: "$(LATER) $$(FOO) $(FOO $FOO"},
			{Name: "LATER", Value: "later"},
		}
	}), "FOO=foo-value", "BAR=bar-value", "FOOBAR=foo-value;;bar-value", "KEPT=$(LATER) $(FOO) $(FOO $FOO")
}

func TestNodeExpandCommand(t *testing.T) {
	for name, command := range map[string]struct{ command, args []string }{
		// Conformance: [sig-node] Variable Expansion should allow substituting values in a container's command
		"command": {command: []string{"/bin/sh", "-c", `VALUE=wrong echo "$(VALUE)"`}},
		// Conformance: [sig-node] Variable Expansion should allow substituting values in a container's args
		"args": {command: []string{"/bin/sh", "-c"}, args: []string{`VALUE=wrong echo "$(VALUE)"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", "")
			p.Spec.Containers[0].Command, p.Spec.Containers[0].Args = command.command, command.args
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "VALUE", Value: "right"}}
			if out := s.output(p); out != "right\n" {
				t.Errorf("the pod wrote %q, want right", out)
			}
		})
	}
}

// Conformance: [sig-node] Downward API should provide pod name, namespace and IP address as env vars
// Conformance: [sig-node] Downward API should provide pod UID as env vars
// Conformance: [sig-node] Downward API should provide hostIPs as an env var
func TestNodeDownwardFields(t *testing.T) {
	s := parallel(t)
	environment := nodeEnvironment(s, func(p *corev1.Pod) {
		p.Annotations = map[string]string{"note": "an annotation"}
		p.Spec.Containers[0].Env = []corev1.EnvVar{
			fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"),
			fieldEnv("POD_UID", "metadata.uid"), fieldEnv("POD_IP", "status.podIP"), fieldEnv("POD_IPS", "status.podIPs"),
			fieldEnv("HOST_IP", "status.hostIP"), fieldEnv("HOST_IPS", "status.hostIPs"),
			fieldEnv("NODE", "spec.nodeName"), fieldEnv("ACCOUNT", "spec.serviceAccountName"),
			fieldEnv("LABEL", "metadata.labels['app']"), fieldEnv("NOTE", "metadata.annotations['note']"),
		}
	})
	p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	if net.ParseIP(p.Status.PodIP) == nil || net.ParseIP(p.Status.HostIP) == nil {
		t.Fatalf("the pod's address is %q and its host's %q", p.Status.PodIP, p.Status.HostIP)
	}
	var ips, hosts []string
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	for _, ip := range p.Status.HostIPs {
		hosts = append(hosts, ip.IP)
	}
	nodeWants(t, environment,
		"POD_NAME=pod", "POD_NAMESPACE="+s.name, "POD_UID="+string(p.UID), "POD_IP="+p.Status.PodIP, "POD_IPS="+strings.Join(ips, ","),
		"HOST_IP="+p.Status.HostIP, "HOST_IPS="+strings.Join(hosts, ","), "NODE="+p.Spec.NodeName, "ACCOUNT=default",
		"LABEL=pod", "NOTE=an annotation")
}

// Conformance: [sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars
func TestNodeDownwardResources(t *testing.T) {
	s := parallel(t)
	nodeWants(t, nodeEnvironment(s, func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.Resources = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1250m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
		}
		c.Env = []corev1.EnvVar{
			resourceEnv("CPU_LIMIT", "limits.cpu"), resourceEnv("MEMORY_LIMIT", "limits.memory"),
			resourceEnv("CPU_REQUEST", "requests.cpu"), resourceEnv("MEMORY_REQUEST", "requests.memory"),
			{Name: "MILLI", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("1m")}}},
			{Name: "MEGA", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
		}
	}), "CPU_LIMIT=2", "MEMORY_LIMIT=67108864", "CPU_REQUEST=1", "MEMORY_REQUEST=33554432", "MILLI=1250", "MEGA=64")
}

// Conformance: [sig-node] Downward API should provide default limits.cpu/memory from node allocatable
func TestNodeDownwardAllocatable(t *testing.T) {
	s := parallel(t)
	environment := nodeEnvironment(s, func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{resourceEnv("CPU_LIMIT", "limits.cpu"), resourceEnv("MEMORY_LIMIT", "limits.memory")}
	})
	p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	node, err := s.client.CoreV1().Nodes().Get(s.ctx, p.Spec.NodeName, metav1.GetOptions{})
	s.must(err)
	nodeWants(t, environment, "CPU_LIMIT="+strconv.FormatInt(node.Status.Allocatable.Cpu().Value(), 10),
		"MEMORY_LIMIT="+strconv.FormatInt(node.Status.Allocatable.Memory().Value(), 10))
}

// Conformance: [sig-node] Pods should contain environment variables for services
func TestNodeServiceEnvironment(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("server", "serve", "--http", ":9376"))
	service, err := s.client.CoreV1().Services(s.name).Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "fooservice"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "server"},
			Ports:    []corev1.ServicePort{{Port: 8765, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	s.must(err)
	ip := service.Spec.ClusterIP
	nodeWants(t, nodeEnvironment(s, func(*corev1.Pod) {}),
		"FOOSERVICE_SERVICE_HOST="+ip, "FOOSERVICE_SERVICE_PORT=8765", "FOOSERVICE_PORT="+fmt.Sprintf("tcp://%s:8765", ip),
		"FOOSERVICE_PORT_8765_TCP="+fmt.Sprintf("tcp://%s:8765", ip), "FOOSERVICE_PORT_8765_TCP_PORT=8765",
		"FOOSERVICE_PORT_8765_TCP_PROTO=tcp", "FOOSERVICE_PORT_8765_TCP_ADDR="+ip)
}
