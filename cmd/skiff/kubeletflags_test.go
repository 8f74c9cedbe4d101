package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	proxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/proxy"
)

func parseKubelet(args ...string) (*kubeletFlags, error) {
	var own kubeletOwn
	var o kubeletFlags
	f := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	own.add(f)
	o.add(f)
	err := f.Parse(args)
	o.file = own.file
	return &o, err
}

func TestKubeletFlags(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n"+content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("config.yaml", "maxPods: 10\npodPidsLimit: 11\nregistryBurst: 12\nfeatureGates: {ImageVolume: false, KubeletEnsureSecretPulledImages: false}\nevictionHard: {memory.available: 1Mi}\n")
	write("over/10.conf", "podPidsLimit: 21\nregistryBurst: 22\n")
	o, err := parseKubelet("--config", file, "--config-dir", filepath.Join(dir, "over"), "--registry-burst=32", "--feature-gates=ImageVolume=true", "--anonymous-auth=false", "--fail-swap-on",
		"--cluster-dns=10.0.0.10,10.0.0.11", "--eviction-hard=memory.available<100Mi,nodefs.available<5%", "--kube-reserved=cpu=100m,memory=1Gi",
		"--node-labels=a=b,c=d", "--register-with-taints=k=v:NoSchedule,x:NoExecute", "--container-runtime-endpoint=unix:///run/c.sock",
		"--pod-infra-container-image=pause", "--cloud-provider=external")
	if err != nil {
		t.Fatal(err)
	}
	conf, err := o.load()
	if err != nil {
		t.Fatal(err)
	}
	type said struct {
		MaxPods, RegistryBurst int32
		Pids                   int64
		Anonymous, Swap        bool
		DNS                    []string
		Hard, Reserved, Labels map[string]string
		Taints, Runtime        string
		Gates                  map[string]bool
	}
	got := said{
		conf.MaxPods, conf.RegistryBurst, *conf.PodPidsLimit, *conf.Authentication.Anonymous.Enabled, *conf.FailSwapOn, conf.ClusterDNS,
		conf.EvictionHard, conf.KubeReserved, o.labels, (*taintsValue)(&o.taints).String(), conf.ContainerRuntimeEndpoint,
		conf.FeatureGates,
	}
	want := said{
		10, 32, 21, false, true, []string{"10.0.0.10", "10.0.0.11"},
		map[string]string{"memory.available": "100Mi", "nodefs.available": "5%"}, map[string]string{"cpu": "100m", "memory": "1Gi"},
		map[string]string{"a": "b", "c": "d"}, "k=v:NoSchedule,x:NoExecute", "unix:///run/c.sock",
		map[string]bool{"ImageVolume": true, "KubeletEnsureSecretPulledImages": false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("configuration (-want +got):\n%s", d)
	}
}

func TestKubeletFlagsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ arg, want string }{
		"a number that is none":         {"--max-pods=many", "want a number"},
		"a boolean that is none":        {"--cgroups-per-qos=7", "want true or false"},
		"a threshold without a value":   {"--eviction-hard=memory.available", "want KEY=VALUE"},
		"a taint without an effect":     {"--register-with-taints=a=b", "want KEY=VALUE:EFFECT"},
		"a taint with another effect":   {"--register-with-taints=a=b:Never", "NoSchedule"},
		"a cloud that is not there":     {"--cloud-provider=aws", "outside"},
		"a value that the file refuses": {"--topology-manager-policy=sometimes", "sometimes"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseKubelet(tc.arg)
			if err == nil {
				_, err = o.load()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// Each flag stands for a field that there is.
func TestConfigFields(t *testing.T) {
	for of, fields := range map[reflect.Type][]configField{
		reflect.TypeFor[kubeletv1beta1.KubeletConfiguration]():  kubeletFields(),
		reflect.TypeFor[proxyv1alpha1.KubeProxyConfiguration](): proxyFields(),
	} {
		for _, f := range fields {
			at := of
			for name := range strings.SplitSeq(strings.Split(f.path, ",")[0], ".") {
				if at.Kind() == reflect.Pointer {
					at = at.Elem()
				}
				found := false
				for i := range at.NumField() {
					if field := at.Field(i); strings.Split(field.Tag.Get("json"), ",")[0] == name {
						at, found = field.Type, true
						break
					}
				}
				if !found {
					t.Errorf("--%s: %s has no %s", f.flag, of.Name(), f.path)
					break
				}
			}
		}
	}
}

func TestProxyAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.1.0.0/16\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	over := map[string]any{}
	f := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	addFields(f, proxyFields(), over)
	addInert(f, inertOfProxy())
	if err := f.Parse([]string{"--cluster-cidr=10.2.0.0/16,fd00::/56", "--hostname-override=me", "--masquerade-all", "--conntrack-min=7", "--nodeport-addresses=10.0.0.0/8", "--init-only=false"}); err != nil {
		t.Fatal(err)
	}
	c, err := proxyAlone(file, over)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != proxy.NFTables || c.NodeName != "me" || !c.MasqueradeAll || !c.IPv4 || !c.IPv6 || len(c.ClusterCIDRs) != 2 || c.ClusterCIDRs[0].String() != "10.2.0.0/16" ||
		len(c.NodePortAddresses) != 1 || c.HealthzAddress != "0.0.0.0:10256" {
		t.Errorf("configuration %+v", c)
	}
	if _, err := proxyAlone("", map[string]any{"mode": "carrier-pigeon"}); err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("error %v", err)
	}
}
