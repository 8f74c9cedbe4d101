package podspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func TestTemplateWarnings(t *testing.T) {
	for _, tc := range []struct {
		name, template string
		want           []string
	}{
		{"nothing to say", `spec: {nodeSelector: {a: b}, containers: [{name: c, env: [{name: A, value: x}, {name: A, value: "$(A)y"}], ports: [{containerPort: 1, protocol: TCP}, {containerPort: 1, protocol: UDP}]}]}`, nil},
		{"labels of nodes", `spec: {nodeSelector: {beta.kubernetes.io/os: linux, beta.kubernetes.io/arch: a}, topologySpreadConstraints: [{topologyKey: failure-domain.beta.kubernetes.io/zone, labelSelector: {}}],
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a}, {key: beta.kubernetes.io/instance-type}]}]}, preferredDuringSchedulingIgnoredDuringExecution: [{preference: {matchExpressions: [{key: failure-domain.beta.kubernetes.io/region}]}}]}}}`, []string{
			`t.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use "kubernetes.io/arch" instead`,
			`t.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`,
			`t.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].key: beta.kubernetes.io/instance-type is deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
			`t.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: failure-domain.beta.kubernetes.io/region is deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
			`t.spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
		}},
		{"selectors of nothing", `spec: {topologySpreadConstraints: [{topologyKey: a}], affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}, {}]}, podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1}]}}}`, []string{
			`t.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod`,
			`t.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].labelSelector: a null labelSelector results in matching no pod`,
			`t.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod`,
		}},
		{"annotations", `{metadata: {annotations: {scheduler.alpha.kubernetes.io/critical-pod: "", container.seccomp.security.alpha.kubernetes.io/c: x, container.apparmor.security.beta.kubernetes.io/c: x, seccomp.security.alpha.kubernetes.io/pod: x}}, spec: {securityContext: {seccompProfile: {type: Unconfined}}, containers: [{name: c}]}}`, []string{
			`t.metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`,
			`t.metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the \"seccompProfile\" field instead`,
			`t.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead`,
		}},
		{"volumes", `spec: {volumes: [{name: a, gitRepo: {}}, {name: b, glusterfs: {}}, {name: c, rbd: {}}, {name: d, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1500m}}}}}}]}`, []string{
			`t.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+`,
			`t.spec.volumes[1].glusterfs: deprecated in v1.25, non-functional in v1.26+`,
			`t.spec.volumes[2].rbd: deprecated in v1.28, non-functional in v1.31+`,
			`t.spec.volumes[3].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer`,
		}},
		{"paths", `spec: {volumes: [{name: a, configMap: {name: m, items: [{key: a, path: x}, {key: b, path: xy}, {key: c, path: x/y}]}}, {name: b, projected: {sources: [{configMap: {name: m, items: [{key: a, path: p}]}}, {serviceAccountToken: {path: p}}, {}]}}]}`, []string{
			`volume "a" (ConfigMap "m"): overlapping paths: "x/y" with "x"`,
			`volume "b" (Projected ServiceAccountToken): overlapping paths: "p" with "p"`,
			`volume "b" (Projected) has no sources provided`,
		}},
		{"what is there twice", `spec: {hostAliases: [{ip: 1.1.1.1}, {ip: 1.1.1.1}], imagePullSecrets: [{name: a}, {name: a}, {}], initContainers: [{name: i, env: [{name: A, value: x}, {name: A, value: "$(A)"}]}], containers: [{name: c, env: [{name: A, value: x}, {name: A, value: y}]}]}`, []string{
			`t.spec.hostAliases[1].ip: duplicate ip "1.1.1.1"`,
			`t.spec.imagePullSecrets[1].name: duplicate name "a"`,
			`t.spec.imagePullSecrets[2].name: invalid empty name ""`,
			`t.spec.initContainers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`,
			`t.spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`,
		}},
		{"parts of bytes", `spec: {overhead: {memory: 1500m}, containers: [{name: c, resources: {limits: {memory: 1m, cpu: 1m}, requests: {ephemeral-storage: 1m}}}]}`, []string{
			`t.spec.overhead[memory]: fractional byte value "1500m" is invalid, must be an integer`,
			`t.spec.containers[0].resources.limits[memory]: fractional byte value "1m" is invalid, must be an integer`,
			`t.spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value "1m" is invalid, must be an integer`,
		}},
		{"ports", `spec: {terminationGracePeriodSeconds: -1, containers: [{name: a, ports: [{containerPort: 1}, {containerPort: 1}]}, {name: b, ports: [{containerPort: 2, hostPort: 5}, {containerPort: 2}, {containerPort: 3, hostPort: 5}, {containerPort: 3, hostPort: 5, hostIP: 1.1.1.1}]}]}`, []string{
			`t.spec.containers[0].ports[1]: duplicate port definition with t.spec.containers[0].ports[0]`,
			`t.spec.containers[1].ports[1]: overlapping port definition with t.spec.containers[1].ports[0]`,
			`t.spec.containers[1].ports[3]: dangerously ambiguous port definition with t.spec.containers[1].ports[2]`,
			`t.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var template corev1.PodTemplateSpec
			if err := yaml.UnmarshalStrict([]byte(tc.template), &template); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, TemplateWarnings(&template, field.NewPath("t"))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestVolumeWarnings(t *testing.T) {
	for _, tc := range []struct {
		name, volume string
		want         []string
	}{
		{"nothing to say", `spec: {persistentVolumeReclaimPolicy: Retain, nfs: {server: s, path: /p}}`, nil},
		{"all", `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: c, volume.beta.kubernetes.io/mount-options: o}}, spec: {persistentVolumeReclaimPolicy: Recycle, rbd: {},
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: beta.kubernetes.io/os}]}]}}}}`, []string{
			`metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead`,
			`metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead`,
			`spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.`,
			`spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead`,
			`spec.rbd: deprecated in v1.28, non-functional in v1.31+`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pv := &corev1.PersistentVolume{}
			if err := yaml.UnmarshalStrict([]byte(tc.volume), pv); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, VolumeWarnings(pv)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
