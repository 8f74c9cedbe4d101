package config

import (
	"encoding/json"
	"maps"
	"reflect"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/cpus"
)

// Unused is a field that is taken and changes nothing.
type Unused struct{ Field, Why string }

// unused are the fields of KubeletConfiguration that skiff does not act on.
func unused() []Unused {
	const (
		itself  = "skiff sizes it by itself"
		notKept = "skiff keeps nothing of this kind"
		root    = "--root moves the whole node"
		chains  = "skiff's proxy and pod network keep chains of their own"
		apis    = "the kubelet's requests are bounded by the server's priority and fairness"
	)
	return []Unused{
		{"podLogsDir", root}, {"volumePluginDir", "volumes of others come by CSI"},
		{"readOnlyPort", "no port of the kubelet is open to all"}, {"tlsCurvePreferences", "the curves are Go's own choice"},
		{"eventRecordQPS", itself}, {"eventBurst", itself}, {"enableContentionProfiling", itself}, {"volumeStatsAggPeriod", itself}, {"runtimeRequestTimeout", itself},
		{"maxOpenFiles", itself}, {"containerLogMaxWorkers", itself}, {"kernelMemcgNotification", itself},
		{"kubeAPIQPS", apis}, {"kubeAPIBurst", apis},
		{"kubeletCgroups", notKept}, {"systemCgroups", notKept}, {"qosReserved", notKept}, {"runOnce", notKept},
		{"memoryThrottlingFactor", notKept}, {"memoryReservationPolicy", notKept},
		{"hairpinMode", "pods reach themselves through their services anyhow"}, {"podCIDR", "the node's object has it"},
		{"enableControllerAttachDetach", "the controller attaches volumes"}, {"localStorageCapacityIsolation", "local storage is always accounted"},
		{"makeIPTablesUtilChains", chains}, {"iptablesMasqueradeBit", chains}, {"iptablesDropBit", chains},
		{"configMapAndSecretChangeDetectionStrategy", "what pods refer to is watched"}, {"showHiddenMetricsForVersion", "skiff has no hidden metrics"},
		{"defaultPodSysctls", "give them in the pods' securityContext"}, {"failCgroupV1", "cgroup v1 is supported"},
	}
}

// UnusedOf are those that the configuration sets to something else than their default.
func UnusedOf(c *kubeletv1beta1.KubeletConfiguration) ([]Unused, error) {
	set, err := fields(c)
	if err != nil {
		return nil, err
	}
	usual, err := fields(Default())
	if err != nil {
		return nil, err
	}
	var out []Unused
	for _, u := range unused() {
		if !reflect.DeepEqual(set[u.Field], usual[u.Field]) {
			out = append(out, u)
		}
	}
	return out, nil
}

// UnusedGates are the gates that the configuration sets and that change nothing.
func UnusedGates(c *kubeletv1beta1.KubeletConfiguration) map[string]bool {
	out := maps.Clone(c.FeatureGates)
	for _, name := range []string{"DisableCPUQuotaWithExclusiveCPUs", "KubeletEnsureSecretPulledImages", cpus.AlphaOptions} {
		delete(out, name)
	}
	return out
}

func fields(c *kubeletv1beta1.KubeletConfiguration) (map[string]any, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	return out, json.Unmarshal(data, &out)
}
