// Package config reads the kubelet's configuration: the KubeletConfiguration
// file and its drop-in folder, strictly, with upstream's defaults.
package config

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"
)

// Default returns a configuration with every default filled in.
func Default() *kubeletv1beta1.KubeletConfiguration {
	c := &kubeletv1beta1.KubeletConfiguration{}
	SetDefaults(c)
	return c
}

// SetDefaults fills in what is not set.
func SetDefaults(c *kubeletv1beta1.KubeletConfiguration) {
	c.APIVersion, c.Kind = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
	serverDefaults(c)
	nodeDefaults(c)
	podDefaults(c)
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setPtr[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func setDuration(field *metav1.Duration, value time.Duration) {
	if field.Duration == 0 {
		field.Duration = value
	}
}

func serverDefaults(c *kubeletv1beta1.KubeletConfiguration) {
	setPtr(&c.EnableServer, true)
	set(&c.Address, "0.0.0.0")
	set(&c.Port, 10250)
	setPtr(&c.Authentication.Anonymous.Enabled, false)
	setPtr(&c.Authentication.Webhook.Enabled, true)
	setDuration(&c.Authentication.Webhook.CacheTTL, 2*time.Minute)
	set(&c.Authorization.Mode, kubeletv1beta1.KubeletAuthorizationModeWebhook)
	setDuration(&c.Authorization.Webhook.CacheAuthorizedTTL, 5*time.Minute)
	setDuration(&c.Authorization.Webhook.CacheUnauthorizedTTL, 30*time.Second)
	setPtr(&c.EnableDebuggingHandlers, true)
	setPtr(&c.HealthzPort, int32(10248))
	set(&c.HealthzBindAddress, "127.0.0.1")
	setDuration(&c.StreamingConnectionIdleTimeout, 4*time.Hour)
	setPtr(&c.EnableSystemLogHandler, true)
	setPtr(&c.EnableSystemLogQuery, false)
	setPtr(&c.EnableProfilingHandler, true)
	setPtr(&c.EnableDebugFlagsHandler, true)
	set(&c.ContentType, "application/vnd.kubernetes.protobuf")
	setPtr(&c.KubeAPIQPS, int32(50))
	set(&c.KubeAPIBurst, 100)
}

func nodeDefaults(c *kubeletv1beta1.KubeletConfiguration) {
	setPtr(&c.EventRecordQPS, int32(50))
	set(&c.EventBurst, 100)
	setPtr(&c.OOMScoreAdj, int32(-999))
	setDuration(&c.NodeStatusUpdateFrequency, 10*time.Second)
	setDuration(&c.NodeStatusReportFrequency, 5*time.Minute)
	set(&c.NodeLeaseDurationSeconds, 40)
	setDuration(&c.ImageMinimumGCAge, 2*time.Minute)
	set(&c.ImagePullCredentialsVerificationPolicy, kubeletv1beta1.NeverVerifyPreloadedImages)
	setPtr(&c.ImageGCHighThresholdPercent, int32(85))
	setPtr(&c.ImageGCLowThresholdPercent, int32(80))
	setDuration(&c.VolumeStatsAggPeriod, time.Minute)
	set(&c.CgroupDriver, "cgroupfs")
	setPtr(&c.CgroupsPerQOS, true)
	set(&c.CPUManagerPolicy, "none")
	setDuration(&c.CPUManagerReconcilePeriod, 10*time.Second)
	set(&c.MemoryManagerPolicy, kubeletv1beta1.NoneMemoryManagerPolicy)
	set(&c.TopologyManagerPolicy, kubeletv1beta1.NoneTopologyManagerPolicy)
	set(&c.TopologyManagerScope, kubeletv1beta1.ContainerTopologyManagerScope)
	setPtr(&c.NodeStatusMaxImages, int32(50))
	set(&c.MaxOpenFiles, 1000000)
	if c.EvictionHard == nil {
		c.EvictionHard = map[string]string{}
		for k, v := range hardEviction {
			c.EvictionHard[k] = v
		}
	} else if ptr.Deref(c.MergeDefaultEvictionSettings, false) {
		for k, v := range hardEviction {
			if _, ok := c.EvictionHard[k]; !ok {
				c.EvictionHard[k] = v
			}
		}
	}
	setDuration(&c.EvictionPressureTransitionPeriod, 5*time.Minute)
	setPtr(&c.EnableControllerAttachDetach, true)
	setPtr(&c.MakeIPTablesUtilChains, true)
	setPtr(&c.FailSwapOn, true)
	if c.EnforceNodeAllocatable == nil {
		c.EnforceNodeAllocatable = []string{"pods"}
	}
	setPtr(&c.RegisterNode, true)
	setPtr(&c.LocalStorageCapacityIsolation, true)
	// The one default that differs from upstream: cgroup v1 is supported.
	setPtr(&c.FailCgroupV1, false)
}

var hardEviction = map[string]string{
	"memory.available":   "100Mi",
	"nodefs.available":   "10%",
	"nodefs.inodesFree":  "5%",
	"imagefs.available":  "15%",
	"imagefs.inodesFree": "5%",
}

func podDefaults(c *kubeletv1beta1.KubeletConfiguration) {
	setDuration(&c.SyncFrequency, time.Minute)
	setDuration(&c.FileCheckFrequency, 20*time.Second)
	setDuration(&c.HTTPCheckFrequency, 20*time.Second)
	set(&c.PodLogsDir, "/var/log/pods")
	setPtr(&c.RegistryPullQPS, int32(5))
	set(&c.RegistryBurst, 10)
	setDuration(&c.RuntimeRequestTimeout, 2*time.Minute)
	set(&c.HairpinMode, kubeletv1beta1.PromiscuousBridge)
	set(&c.MaxPods, 110)
	setPtr(&c.PodPidsLimit, int64(-1))
	setPtr(&c.ResolverConfig, "/etc/resolv.conf")
	setPtr(&c.CPUCFSQuota, true)
	setPtr(&c.CPUCFSQuotaPeriod, metav1.Duration{Duration: 100 * time.Millisecond})
	setPtr(&c.SerializeImagePulls, true)
	set(&c.ContainerLogMaxSize, "10Mi")
	setPtr(&c.ContainerLogMaxFiles, int32(5))
	setPtr(&c.ContainerLogMaxWorkers, int32(1))
	setPtr(&c.ContainerLogMonitorInterval, metav1.Duration{Duration: 10 * time.Second})
	set(&c.ConfigMapAndSecretChangeDetectionStrategy, kubeletv1beta1.WatchChangeDetectionStrategy)
	set(&c.VolumePluginDir, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/")
	setPtr(&c.SeccompDefault, false)
	setPtr(&c.CrashLoopBackOff.MaxContainerRestartPeriod, metav1.Duration{Duration: 5 * time.Minute})
}
