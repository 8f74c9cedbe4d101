package main

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/cluster/featuregates"
	kubeletconfig "skiff/kubelet/config"
)

// kubeletFlags are kubelet's flags that a node's kubeletExtraArgs may set as well.
// Most of them are fields of its configuration, over whose file they go.
type kubeletFlags struct {
	file, dropIns string
	// over are the fields that flags set.
	over   map[string]any
	labels map[string]string
	taints []corev1.Taint
	gates  featuregates.Gates
	// providers is a CredentialProviderConfig, plugins the folder of its programs.
	providers, plugins string
	// set is what was parsed.
	set *pflag.FlagSet
}

// kubeletOwn are flags of a kubelet that runs alone; init and join decide them.
type kubeletOwn struct{ file, kubeconfig, bootstrap, name, ip, podCIDR string }

func (o *kubeletOwn) add(f *pflag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "/etc/kubernetes/kubelet.conf", "how the API is reached")
	f.StringVar(&o.file, "config", "", "a KubeletConfiguration; empty is its defaults")
	f.StringVar(&o.bootstrap, "bootstrap-kubeconfig", "", "with what a first certificate is asked for, where --kubeconfig does not exist")
	f.StringVar(&o.name, "hostname-override", "", "the node's name (default the host name)")
	f.StringVar(&o.ip, "node-ip", "", "the node's address (default the one of its default route)")
	f.StringVar(&o.podCIDR, "cluster-cidr", "10.244.0.0/16", "the pods' range")
}

func (o *kubeletFlags) add(f *pflag.FlagSet) {
	o.over, o.set = map[string]any{}, f
	f.StringVar(&o.dropIns, "config-dir", "", "a folder of *.conf files, which go over --config in the order of their names")
	f.StringToStringVar(&o.labels, "node-labels", nil, "labels that the node registers with: KEY=VALUE")
	f.Var((*taintsValue)(&o.taints), "register-with-taints", "taints that the node registers with: KEY=VALUE:EFFECT")
	f.StringVar(&o.providers, "image-credential-provider-config", "", "a CredentialProviderConfig: programs that know credentials of registries")
	f.StringVar(&o.plugins, "image-credential-provider-bin-dir", "", "the folder of these programs")
	addGates(f, &o.gates)
	addFields(f, kubeletFields(), o.over)
	f.Lookup("container-runtime-endpoint").Hidden = false
	addInert(f, inertOfKubelet())
}

// load reads the configuration: the file, the folder over it, the flags over both.
func (o *kubeletFlags) load() (*kubeletv1beta1.KubeletConfiguration, error) {
	over := maps.Clone(o.over)
	if gates := o.gates.Map(); len(gates) > 0 {
		if over == nil {
			over = map[string]any{}
		}
		byName := map[string]any{}
		for name, on := range gates {
			byName[name] = on
		}
		over["featureGates"] = byName
	}
	return kubeletconfig.Load(o.file, o.dropIns, over)
}

// warn names the flags that have no effect.
func (o *kubeletFlags) warn() { warnInert(o.set, slog.Default()) }

// taintsValue parses --register-with-taints.
type taintsValue []corev1.Taint

// String and the others make it a pflag.Value.
func (v *taintsValue) String() string {
	var out []string
	for _, t := range *v {
		out = append(out, t.ToString())
	}
	return strings.Join(out, ",")
}
func (v *taintsValue) Type() string { return "[]Taint" }
func (v *taintsValue) Set(given string) error {
	for _, part := range strings.Split(given, ",") {
		pair, effect, ok := strings.Cut(part, ":")
		key, value, _ := strings.Cut(pair, "=")
		t := corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
		switch {
		case !ok || key == "":
			return fmt.Errorf("taint %q: want KEY=VALUE:EFFECT", part)
		case t.Effect != corev1.TaintEffectNoSchedule && t.Effect != corev1.TaintEffectPreferNoSchedule && t.Effect != corev1.TaintEffectNoExecute:
			return fmt.Errorf("taint %q: the effect is NoSchedule, PreferNoSchedule or NoExecute", part)
		}
		*v = append(*v, t)
	}
	return nil
}
