package builtin_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/resources/builtin"
)

// TestRules creates objects that break one rule each, and wants its text.
func TestRules(t *testing.T) {
	const container = "{name: c, image: i, terminationMessagePolicy: File, imagePullPolicy: Always"
	pod := func(spec string) string { return "spec: {" + spec + ", containers: [" + container + "}]}" }
	volume := func(source string) string { return pod("volumes: [{name: v, " + source + "}]") }
	set := func(text string) string {
		return "spec: {serviceName: s, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, " + pod("restartPolicy: Always") + "}, " + text + "}"
	}
	pv := func(source string) string {
		return "spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, " + source + "}"
	}
	hook := func(text string) string {
		return "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://h'}, " + text + "}]"
	}
	policy := func(text string) string {
		return "spec: {matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}, " + text + "}"
	}
	claim := func(text string) string {
		return "spec: {devices: {requests: [{name: a, exactly: {deviceClassName: c, " + text + "}}]}}"
	}
	for _, tc := range []struct{ name, kind, object, want string }{
		{"an iSCSI name", "Pod", volume("iscsi: {targetPortal: p, iqn: x}"), `spec.volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa`},
		{"fibre channel", "Pod", volume("fc: {targetWWNs: [a]}"), `spec.volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified`},
		{"a claim's size", "Pod", volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"), `spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value`},
		{"a set's claim", "StatefulSet", set("volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce, X], resources: {requests: {storage: 1Gi}}}}]"), `spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value: "X"`},
		{"a set's claim without modes", "StatefulSet", set("volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1Gi}}}}]"), `spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required`},
		{"a set's claim's name", "StatefulSet", set("volumeClaimTemplates: [{metadata: {name: 'a b'}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]"), `spec.template.spec.volumes[0].name: Invalid value: "a b"`},
		{"a CSI driver", "Pod", volume("csi: {driver: -x}"), `spec.volumes[0].csi.driver: Invalid value: "-x": a lowercase RFC 1123 subdomain`},
		{"a trust bundle", "Pod", volume("projected: {sources: [{clusterTrustBundle: {path: p}}]}"), `spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified`},
		{"a pod certificate", "Pod", volume("projected: {sources: [{podCertificate: {signerName: a.b/c, keyType: X, keyPath: k}}]}"), `spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value: "X"`},
		{"sleep", "Pod", "spec: {terminationGracePeriodSeconds: 5, containers: [" + container + ", lifecycle: {preStop: {sleep: {seconds: 9}}}}]}", `spec.containers[0].lifecycle.preStop.sleep: Invalid value: 9: must be non-negative and less than terminationGracePeriodSeconds (5)`},
		{"a stop signal", "Pod", "spec: {containers: [" + container + ", lifecycle: {stopSignal: SIGTERM}}]}", "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"},
		{"a limit", "Pod", "spec: {containers: [" + container + ", resources: {requests: {example.com/gpu: 1}}}]}", `spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources`},
		{"a divisor", "Pod", "spec: {containers: [" + container + ", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}]}]}", `only divisor's values 1m and 1 are supported with the cpu resource`},
		{"a Windows user", "Pod", pod(`securityContext: {windowsOptions: {runAsUserName: 'a\b\c'}}`), `runAsUserName cannot contain more than one backslash`},
		{"a Linux pod", "Pod", pod("os: {name: linux}, securityContext: {windowsOptions: {}}"), `spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod`},
		{"a sysctl of the node's network", "Pod", pod("hostNetwork: true, securityContext: {sysctls: [{name: net/ipv4/tcp_syncookies, value: '1'}]}"), `spec.securityContext.sysctls[0].name: Invalid value: "net/ipv4/tcp_syncookies": may not be specified when 'hostNetwork' is true`},
		{"a sysctl of the node's IPC", "Pod", pod("hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}"), `spec.securityContext.sysctls[0].name: Invalid value: "kernel.shm_rmid_forced": may not be specified when 'hostIPC' is true`},
		{"a group policy", "Pod", pod("securityContext: {fsGroupChangePolicy: X}"), `spec.securityContext.fsGroupChangePolicy: Unsupported value: "X": supported values: "Always", "OnRootMismatch"`},
		{"spread twice", "Pod", pod("topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]"), `spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}"`},
		{"label keys", "Pod", pod("topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, matchLabelKeys: [a]}]"), `matchLabelKeys: Forbidden: must not be specified when labelSelector is not set`},
		{"a host name", "Pod", pod("hostnameOverride: " + strings.Repeat("a", 65)), `spec.hostnameOverride: Too long: may not be more than 64 bytes`},

		{"a volume's source", "PersistentVolume", pv("azureFile: {secretName: s, shareName: x, secretNamespace: ''}"), `spec.azureFile.secretNamespace: Required value`},
		{"a volume's secret", "PersistentVolume", pv("csi: {driver: d, volumeHandle: h, nodeStageSecretRef: {name: x}}"), `spec.csi.nodeStageSecretRef.namespace: Required value`},
		{"an inline volume", "VolumeAttachment", "spec: {attacher: a, nodeName: x, source: {inlineVolumeSpec: {accessModes: [ReadWriteOnce], storageClassName: s, csi: {driver: d, volumeHandle: h}}}}", `spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes`},

		{"a hook's name", "ValidatingWebhookConfiguration", "webhooks: [{name: a, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://h'}}]", `webhooks[0].name: Invalid value: "a": should be a domain with at least three segments separated by dots`},
		{"a hook's URL", "ValidatingWebhookConfiguration", "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'http://h'}}]", `'https' is the only allowed URL scheme; desired format: https://host[/path]`},
		{"a hook's condition", "ValidatingWebhookConfiguration", hook("matchConditions: [{name: a, expression: '1'}]"), `webhooks[0].matchConditions[0].expression: Invalid value: "1": must evaluate to bool`},
		{"CEL", "MutatingWebhookConfiguration", hook("matchConditions: [{name: a, expression: 'what.is'}]"), `undeclared reference to 'what'`},
		{"resources of a rule", "MutatingWebhookConfiguration", hook("rules: [{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: ['pods/*', pods/status]}]"), `if 'pods/*' is present, must not specify pods/status`},
		{"a policy's validation", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'object.spec', messageExpression: '1'}]"), `spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string`},
		{"a policy's variable", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'true'}], variables: [{name: a-b, expression: '1'}]"), `spec.variables[0].name: Invalid value: "a-b": must be a valid CEL identifier`},
		{"a mutation", "MutatingAdmissionPolicy", policy("mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: '1'}}]"), `must evaluate to Object but got int`},
		{"a mutation of what is deleted", "MutatingAdmissionPolicy", strings.ReplaceAll(policy("reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{}]'}}]"), "CREATE", "DELETE"), `spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"`},
		{"a mutation's other patch", "MutatingAdmissionPolicy", policy("mutations: [{patchType: JSONPatch, applyConfiguration: {expression: 'Object{}'}}]"), `spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch, spec.reinvocationPolicy: Required value`},
		{"a type of what is asked", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'request.name == 1'}]"), `found no matching overload for '_==_' applied to '(string, int)'`},
		{"a variable that stands behind", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'true'}], variables: [{name: a, expression: variables.b}, {name: b, expression: '1'}]"), `spec.variables[0].expression: Invalid value: "variables.b": compilation failed: ERROR: <input>:1:10: undefined field 'b'`},
		{"a variable in a condition", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'true'}], variables: [{name: a, expression: '1'}], matchConditions: [{name: m, expression: variables.a == 1}]"), `spec.matchConditions[0].expression: Invalid value: "variables.a == 1": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables'`},
		{"params without a kind", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'params == null'}]"), `undeclared reference to 'params'`},
		{"rights in a message", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'true', messageExpression: 'authorizer.path(\"/\").check(\"get\").reason()'}]"), `undeclared reference to 'authorizer'`},
		{"a reason", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'true', reason: Unauthorized}]"), `supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"`},
		{"a dynamic result", "ValidatingAdmissionPolicy", policy("validations: [{expression: 'object.x'}]"), `must evaluate to bool but got dyn`},
		{"an annotation's key", "ValidatingAdmissionPolicy", "metadata: {name: p}\n" + policy("auditAnnotations: [{key: 'a b', valueExpression: '\"x\"'}]"), `spec.auditAnnotations[0].key: Invalid value: "p/a b": name part`},
		{"a hook's service", "ValidatingWebhookConfiguration", "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {name: s, path: bc}}}]", `[webhooks[0].clientConfig.service.name: Required value, webhooks[0].clientConfig.service.path: Invalid value: "bc": must start with a '/']`},
		{"a version of a rule", "ValidatingWebhookConfiguration", hook("rules: [{apiGroups: [''], apiVersions: [''], operations: ['*'], resources: [pods]}]"), `webhooks[0].rules[0].apiVersions[0]: Required value`},
		{"a binding", "ValidatingAdmissionPolicyBinding", "spec: {paramRef: {name: a, selector: {}, parameterNotFoundAction: X}}", `[spec.paramRef.name: Forbidden: name and selector are mutually exclusive, spec.paramRef.selector: Forbidden: name and selector are mutually exclusive, spec.paramRef.parameterNotFoundAction: Unsupported value: "X": supported values: "Deny", "Allow", spec.policyName: Required value, spec.validationActions: Required value]`},

		{"a device class", "ResourceClaim", claim("allocationMode: All, count: 2"), `spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'`},
		{"a selector", "ResourceClaim", claim("selectors: [{cel: {expression: 'device.nothing'}}]"), `undefined field 'nothing'`},
		{"a constraint", "ResourceClaim", "spec: {devices: {requests: [{name: a, exactly: {deviceClassName: c}}], constraints: [{requests: [b], matchAttribute: d/x}]}}", `must be the name of a request in the claim`},
		{"a slice's nodes", "ResourceSlice", "spec: {driver: d, pool: {name: p, resourceSliceCount: 1}}", "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"},

		{"an endpoint's host", "EndpointSlice", "{addressType: IPv4, endpoints: [{addresses: [1.2.3.4], hostname: 'a b'}]}", `endpoints[0].hostname: Invalid value`},
		{"an endpoint's zone, which is anyone's", "EndpointSlice", "{addressType: IPv4, endpoints: [{addresses: [1.2.3.4], zone: 'a b'}], ports: [{name: '', protocol: TCP, port: 0}]}", ``},
		{"a backend's group", "Ingress", "spec: {defaultBackend: {resource: {apiGroup: '', kind: K, name: n}}}", `spec.defaultBackend.resource.apiGroup: Invalid value: ""`},
		{"a backend of nothing", "Ingress", "spec: {defaultBackend: {}}", `spec.defaultBackend: Invalid value: "": resource or service backend is required`},
		{"a backend without a port", "Ingress", "spec: {defaultBackend: {service: {name: '1'}}}", `spec.defaultBackend: Required value: port name or number is required`},
		{"a target's group", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {apiVersion: v1, kind: Deployment, name: d}, maxReplicas: 1}", `spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group`},
		{"a target's version", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {apiVersion: a/b/c, kind: Deployment, name: d}, maxReplicas: 1}", `spec.scaleTargetRef.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c`},
		{"no replicas for pods' metrics", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {kind: ReplicationController, name: d}, minReplicas: 0, maxReplicas: 1}", `spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas`},
		{"the most replicas", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {kind: ReplicationController, name: d}}", `spec.maxReplicas: Required value`},
		{"two sources of a metric", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {kind: ReplicationController, name: d}, maxReplicas: 1, metrics: [{type: External, external: {metric: {name: m, selector: {matchLabels: {-: b}}}, target: {type: Value, value: 1}}, resource: {name: ''}}]}", `spec.metrics[0].resource: Forbidden: must populate the given metric source only`},
		{"a container's metric", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {kind: ReplicationController, name: d}, maxReplicas: 1, metrics: [{type: ContainerResource, containerResource: {name: requests.cpu, container: A, target: {type: Utilization, averageUtilization: 1}}}]}", `[spec.metrics[0].containerResource.name: Invalid value: "requests.cpu": must be a standard resource for containers, spec.metrics[0].containerResource.container: Invalid value: "A": a lowercase RFC 1123 label`},
		{"a path", "Ingress", "spec: {rules: [{http: {paths: [{path: /a//b, pathType: Exact, backend: {service: {name: s, port: {number: 1}}}}]}}]}", `spec.rules[0].http.paths[0].path: Invalid value: "/a//b": must not contain '//'`},
		{"a backend", "Ingress", "spec: {defaultBackend: {resource: {kind: K, name: ''}}}", `spec.defaultBackend.resource.name: Required value`},
		{"a lease's strategy", "Lease", "spec: {preferredHolder: a}", "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"},
		{"exit codes", "Job", "spec: {template: {spec: {restartPolicy: Never, containers: [" + container + "}]}}, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [0]}}]}}", `must not be 0 for the In operator`},
		{"success", "Job", "spec: {completionMode: Indexed, completions: 2, parallelism: 1, template: {spec: {restartPolicy: Never, containers: [" + container + "}]}}, successPolicy: {rules: [{succeededCount: 3}]}}", `must be less than or equal to 2 (the number of specified completions)`},
		{"a usage", "CertificateSigningRequest", "spec: {usages: [x]}", `spec.usages[0]: Unsupported value: "x"`},
		{"a flow's subject", "FlowSchema", "spec: {priorityLevelConfiguration: {name: p}, rules: [{subjects: [{kind: User, user: {name: ''}}]}]}", `spec.rules[0].subjects[0].user.name: Required value`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := createErrors(t, tc.kind, tc.object)
			if !strings.Contains(got, tc.want) {
				t.Errorf("%s\nsays: %s\nwant: %s", tc.object, got, tc.want)
			}
		})
	}
}

// createErrors is what the validation of a kind says of an object in YAML.
func createErrors(t *testing.T, kind, text string) string {
	t.Helper()
	for _, r := range builtin.Resources() {
		if r.Kind != kind {
			continue
		}
		for _, v := range r.Versions {
			if v.Name != r.Hub {
				continue
			}
			obj := v.New()
			if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
				t.Fatal(err)
			}
			if v.Default != nil {
				v.Default(obj)
			}
			if err := r.Strategy.Validate(context.Background(), obj).ToAggregate(); err != nil {
				return err.Error()
			}
			return ""
		}
	}
	t.Fatalf("no kind %s", kind)
	return ""
}

// TestUpdateLeave names every kind that PUT may not overwrite without a
// resourceVersion, and every kind that PUT may make.
func TestUpdateLeave(t *testing.T) {
	wantConditional := []string{
		"policy/PodDisruptionBudget",
		"storage.k8s.io/VolumeAttachment", "storage.k8s.io/CSINode", "storage.k8s.io/CSIDriver", "storage.k8s.io/CSIStorageCapacity",
		"coordination.k8s.io/Lease", "coordination.k8s.io/LeaseCandidate",
		"node.k8s.io/RuntimeClass",
		"certificates.k8s.io/ClusterTrustBundle", "certificates.k8s.io/PodCertificateRequest",
		"admissionregistration.k8s.io/MutatingWebhookConfiguration", "admissionregistration.k8s.io/ValidatingWebhookConfiguration",
		"admissionregistration.k8s.io/MutatingAdmissionPolicy", "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding",
		"admissionregistration.k8s.io/ValidatingAdmissionPolicy", "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding",
		"apiextensions.k8s.io/CustomResourceDefinition", "apiregistration.k8s.io/APIService",
		"resource.k8s.io/DeviceTaintRule", "resource.k8s.io/ResourcePoolStatusRequest",
		"internal.apiserver.k8s.io/StorageVersion", "storagemigration.k8s.io/StorageVersionMigration",
	}
	wantMade := []string{
		"/Endpoints", "/Event", "/LimitRange", "/Service", "events.k8s.io/Event",
		"rbac.authorization.k8s.io/ClusterRole", "rbac.authorization.k8s.io/ClusterRoleBinding", "rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/RoleBinding",
		"coordination.k8s.io/Lease", "coordination.k8s.io/LeaseCandidate", "node.k8s.io/RuntimeClass",
	}
	var conditional, made []string
	for _, r := range builtin.Resources() {
		if !slices.Contains(r.Verbs, "update") {
			continue
		}
		name := r.Group + "/" + r.Kind
		if !r.Strategy.AllowUnconditionalUpdate {
			conditional = append(conditional, name)
		}
		if r.Strategy.AllowCreateOnUpdate {
			made = append(made, name)
		}
		for sub, s := range r.Subresources {
			if s.Strategy != nil && s.Strategy.AllowUnconditionalUpdate && !r.Strategy.AllowUnconditionalUpdate {
				t.Errorf("%s/%s may be updated without a version, and its kind may not", name, sub)
			}
		}
	}
	if diff := cmp.Diff(wantConditional, conditional, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("kinds whose updates must name a resourceVersion (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantMade, made, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("kinds that an update makes (-want +got):\n%s", diff)
	}
}
