// Package config reads, completes and checks a KubeSchedulerConfiguration v1,
// and turns a profile's plugin sets into the lists that the runtime takes.
package config

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultSchedulerName is the name of the profile that serves pods naming none.
const DefaultSchedulerName = "default-scheduler"

// Default is the configuration of a scheduler that was given none.
func Default() *configv1.KubeSchedulerConfiguration {
	c := &configv1.KubeSchedulerConfiguration{}
	SetDefaults(c)
	return c
}

// Load reads YAML or JSON. Unknown and repeated fields are errors, also in the
// arguments of plugins.
func Load(data []byte) (*configv1.KubeSchedulerConfiguration, error) {
	scheme := runtime.NewScheme()
	if err := configv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering kubescheduler.config.k8s.io/v1: %w", err)
	}
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	obj, gvk, err := codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the scheduler configuration: %w", err)
	}
	c, ok := obj.(*configv1.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("couldn't decode as KubeSchedulerConfiguration, got %s: set kind: KubeSchedulerConfiguration", gvk)
	}
	if err := c.DecodeNestedObjects(codecs.UniversalDeserializer()); err != nil {
		return nil, fmt.Errorf("reading the scheduler configuration: %w", err)
	}
	SetDefaults(c)
	return c, Validate(c)
}

// SetDefaults completes c in place.
func SetDefaults(c *configv1.KubeSchedulerConfiguration) {
	c.TypeMeta = metav1.TypeMeta{APIVersion: configv1.SchemeGroupVersion.String(), Kind: "KubeSchedulerConfiguration"}
	set(&c.Parallelism, 16)
	set(&c.PercentageOfNodesToScore, 0)
	set(&c.PodInitialBackoffSeconds, 1)
	set(&c.PodMaxBackoffSeconds, 10)
	if len(c.Profiles) == 0 {
		c.Profiles = []configv1.KubeSchedulerProfile{{}}
	}
	if len(c.Profiles) == 1 && c.Profiles[0].SchedulerName == nil {
		c.Profiles[0].SchedulerName = ptr.To(DefaultSchedulerName)
	}
	le := &c.LeaderElection
	set(&le.LeaderElect, true)
	fill(&le.LeaseDuration, 15*time.Second)
	fill(&le.RenewDeadline, 10*time.Second)
	fill(&le.RetryPeriod, 2*time.Second)
	for s, v := range map[*string]string{&le.ResourceLock: "leases", &le.ResourceNamespace: configv1.SchedulerDefaultLockObjectNamespace, &le.ResourceName: configv1.SchedulerDefaultLockObjectName} {
		if *s == "" {
			*s = v
		}
	}
	cc := &c.ClientConnection
	if cc.ContentType == "" {
		cc.ContentType = "application/vnd.kubernetes.protobuf"
	}
	if cc.QPS == 0 {
		cc.QPS = 50
	}
	if cc.Burst == 0 {
		cc.Burst = 100
	}
	set(&c.EnableProfiling, true)
	set(&c.EnableContentionProfiling, true)
	for i := range c.Extenders {
		e := &c.Extenders[i]
		if e.HTTPTimeout.Duration == 0 {
			e.HTTPTimeout.Duration = 5 * time.Second
		}
	}
}

func set[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func fill(d *metav1.Duration, v time.Duration) {
	if d.Duration == 0 {
		d.Duration = v
	}
}

// Args are a profile's decoded plugin arguments by plugin.
func Args(p *configv1.KubeSchedulerProfile) map[string]any {
	out := map[string]any{}
	for _, pc := range p.PluginConfig {
		if pc.Args.Object != nil {
			out[pc.Name] = pc.Args.Object
		}
	}
	return out
}
