package builtin_test

import (
	"strings"
	"testing"
)

// TestWorkloadRules creates pods and what makes them, and wants the paths and texts
// that clients know the faults by.
//
// Covers: api.validation
func TestWorkloadRules(t *testing.T) {
	const container = "{name: c, image: i, terminationMessagePolicy: File, imagePullPolicy: Always"
	pod := func(spec string) string { return "spec: {" + spec + ", containers: [" + container + "}]}" }
	with := func(text string) string { return "spec: {containers: [" + container + ", " + text + "}]}" }
	debug := func(text string) string {
		return pod("ephemeralContainers: [" + strings.Replace(container, "name: c", "name: d", 1) + ", " + text + "}]")
	}
	job := func(text string) string {
		return "metadata: {name: j, uid: u}\nspec: {manualSelector: true, selector: {matchLabels: {a: b}}, " + text +
			", template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [" + container + "}]}}}"
	}
	cron := func(text string) string {
		return "spec: {schedule: '* * * * *', jobTemplate: {spec: {" + text + ", template: {spec: {restartPolicy: Never, containers: [" + container + "}]}}}}}"
	}
	daemons := func(text string) string {
		return "spec: {" + text + ", template: {metadata: {labels: {a: b}}, spec: {containers: [" + container + "}]}}}"
	}
	for _, tc := range []struct{ name, kind, object, want string }{
		{"a resource of no kind", "Pod", with("resources: {limits: {a: 1}}"), `spec.containers[0].resources.limits[a]: Invalid value: "a": must be a standard resource type or fully qualified`},
		{"a resource of quotas", "Pod", with("resources: {limits: {requests.cpu: 1}}"), `spec.containers[0].resources.limits[requests.cpu]: Invalid value: "requests.cpu": must be a standard resource for containers`},
		{"a device's name", "Pod", with("resources: {limits: {requests.example.com/a: 1}}"), `doesn't follow extended resource name standard`},
		{"huge pages alone", "Pod", with("resources: {limits: {hugepages-2Mi: 2Mi}}"), `spec.containers[0].resources: Forbidden: HugePages require cpu or memory`},
		{"part of a huge page", "Pod", with("resources: {limits: {hugepages-2Mi: 3Mi, cpu: 1}}"), `spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`},
		{"an overhead", "Pod", pod("overhead: {a: 1}"), `spec.overhead.limits[a]: Invalid value: "a": must be a standard resource type or fully qualified`},
		{"a pod's resource", "Pod", pod("resources: {limits: {requests.cpu: 1}}"), `spec.resources.limits[requests.cpu]: Unsupported value: "requests.cpu": supported values: "cpu", "hugepages-", "memory"`},
		{"a pod's claim", "Pod", pod("resources: {claims: []}"), `spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level`},
		{"a claim of none", "Pod", with("resources: {claims: [{name: x}]}"), `spec.containers[0].resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims which is empty`},
		{"a claim twice", "Pod", "spec: {resourceClaims: [{name: x, resourceClaimName: y}], containers: [" + container + ", resources: {claims: [{name: x}, {name: x, request: r}]}}]}", `spec.containers[0].resources.claims[1]: Duplicate value: "x"`},
		{"a source of variables", "Pod", with("envFrom: [{}]"), "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"},
		{"a map's name", "Pod", with("envFrom: [{configMapRef: {name: A}}]"), `spec.containers[0].envFrom[0].configMapRef.name: Invalid value: "A": a lowercase RFC 1123 subdomain`},
		{"a field's version", "Pod", with("env: [{name: A, valueFrom: {fieldRef: {apiVersion: x, fieldPath: metadata.name}}}]"), `error converting fieldPath: unsupported pod version: x`},
		{"a mount", "Pod", "spec: {volumes: [{name: v, emptyDir: {}}], containers: [" + container + ", volumeMounts: [{name: v, mountPath: /a, subPath: /x}]}]}", `spec.containers[0].volumeMounts.subPath: Invalid value: "/x": must be a relative path`},
		{"a mount of a bad volume", "Pod", "spec: {volumes: [{name: v, nfs: {}}], containers: [" + container + ", volumeMounts: [{name: v, mountPath: /a}]}]}", `spec.containers[0].volumeMounts[0].name: Not found: "v"`},
		{"two sources", "Pod", pod("volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}, cephfs: {}, downwardAPI: {}}]"), `[spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type, spec.volumes[0].cephFS: Forbidden: may not specify more than 1 volume type, spec.volumes[0].downwarAPI: Forbidden: may not specify more than 1 volume type]`},
		{"a size", "Pod", pod("volumes: [{name: v, emptyDir: {sizeLimit: -1}}]"), `spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity`},
		{"a path twice", "Pod", pod("volumes: [{name: v, projected: {sources: [{configMap: {name: m, items: [{key: a, path: x}]}}, {secret: {name: s, items: [{key: a, path: x}]}}]}}]"), `spec.volumes[0].projected: Invalid value: "s": conflicting duplicate paths`},
		{"no source", "Pod", pod("volumes: [{name: v, projected: {sources: [{}]}}]"), ``},
		{"a debugger's target", "Pod", debug("targetContainerName: x"), `spec.ephemeralContainers[0].targetContainerName: Not found: "x"`},
		{"a debugger's restarts", "Pod", debug("restartPolicy: Always"), `spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set for an Ephemeral Container`},
		{"a debugger's part of a volume", "Pod", "spec: {volumes: [{name: v, emptyDir: {}}], ephemeralContainers: [{name: d, image: i, terminationMessagePolicy: File, imagePullPolicy: Always, volumeMounts: [{name: v, mountPath: /a, subPath: x}]}], containers: [" + container + "}]}", `spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container`},
		{"unmasked", "Pod", with("securityContext: {procMount: Unmasked}"), "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"},
		{"a profile's path", "Pod", pod("securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../a}}"), `spec.securityContext.seccompProfile.localhostProfile: Invalid value: "../a": must not contain '..'`},
		{"a system", "Pod", pod("os: {name: x}"), `spec.os: Unsupported value: "x": supported values: "linux", "windows"`},
		{"a Windows pod's resources", "Pod", pod("os: {name: windows}, resources: {limits: {cpu: 1}}"), `spec.resources: Forbidden: may not be set for a windows pod`},
		{"the node's port", "Pod", "spec: {hostNetwork: true, containers: [" + container + ", ports: [{containerPort: 80, hostPort: 81}]}]}", "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"},
		{"many rules", "Pod", with("restartPolicy: Never, restartPolicyRules: [" + strings.Repeat("{action: Restart, exitCodes: {operator: In, values: [1]}}, ", 21) + "]"), `spec.containers[0].restartPolicyRules: Too many: 21: must have at most 20 items`},

		{"few domains", "Pod", pod("topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}]"), `spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway`},
		{"a token of nobody", "Pod", pod("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: p}}]}}]"), `spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set`},

		{"a surge", "DaemonSet", daemons("selector: {matchLabels: {a: b}}, updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0}}"), `spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0`},
		{"more than all", "DaemonSet", daemons("selector: {matchLabels: {a: b}}, updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 150%}}"), `spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%`},
		{"a revision's data", "ControllerRevision", "data: [1]", `data: Required value: data must be a valid JSON object`},

		{"many pods", "Job", job("completionMode: Indexed, completions: 3, parallelism: 100001"), `spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed`},
		{"failed indexes", "Job", job("completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1, maxFailedIndexes: 4"), `spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions`},
		{"a manager", "Job", job("managedBy: a"), `spec.managedBy: Invalid value: "a": must be a domain-prefixed path (such as "acme.io/foo")`},
		{"indexes of success", "Job", job("completionMode: Indexed, completions: 3, successPolicy: {rules: [{succeededIndexes: '0,2', succeededCount: 3}]}"), `must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)`},
		{"a selector of others", "Job", "spec: {manualSelector: true, selector: {matchLabels: {a: b}}, template: {spec: {restartPolicy: Never, containers: [" + container + "}]}}}", "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"},
		{"a cron job's selector", "CronJob", cron("selector: {matchLabels: {a: b}}"), "`selector` will be auto-generated"},

		{"a limit's type", "LimitRange", "spec: {limits: [{type: x}]}", `spec.limits[0].type: Invalid value: "x": must be a standard limit type or fully qualified`},
		{"a limit's resource", "LimitRange", "spec: {limits: [{type: Pod, max: {a: 1}}]}", `spec.limits[0].max[a]: Invalid value: "a": must be a standard resource type or fully qualified`},
		{"a ratio", "LimitRange", "spec: {limits: [{type: Pod, max: {cpu: 4}, min: {cpu: 1}, maxLimitRequestRatio: {cpu: 10}}]}", `spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "10": ratio 10 is greater than max/min = 4.000000`},

		{"a headless service's address", "Service", "spec: {ports: [{port: 1}], clusterIP: None, clusterIPs: [None, x]}", `spec.clusterIPs[1]: Invalid value: "x": must be a valid IP address`},
		{"a port to ask for health", "Service", "spec: {ports: [{port: 1}], healthCheckNodePort: 1}", "spec.healthCheckNodePort: Invalid value: 1: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"},
		{"ranges in an annotation", "Service", "metadata: {annotations: {service.beta.kubernetes.io/load-balancer-source-ranges: 1.2.3.0/24}}\nspec: {ports: [{port: 1}]}", `metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when ` + "`type` is 'LoadBalancer'"},
		{"a balancer's ranges", "Service", "spec: {type: LoadBalancer, ports: [{port: 1}], loadBalancerSourceRanges: [10.0.0.1/8]}", `spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := createErrors(t, tc.kind, tc.object)
			if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("%s\nsays: %s\nwant: %s", tc.object, got, tc.want)
			}
		})
	}
}

// TestWorkloadUpdateRules changes what may not change.
func TestWorkloadUpdateRules(t *testing.T) {
	const container = "{name: c, image: i, terminationMessagePolicy: File, imagePullPolicy: Always}"
	set := func(text string) string {
		return "spec: {selector: {matchLabels: {a: b}}, " + text + ", template: {metadata: {labels: {a: b}}, spec: {containers: [" + container + "]}}}"
	}
	job := func(text string) string {
		return "spec: {manualSelector: true, selector: {matchLabels: {a: b}}, completionMode: Indexed, " + text +
			", template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [" + container + "]}}}"
	}
	service := func(text string) string {
		return "spec: {ports: [{port: 1}], type: LoadBalancer, externalTrafficPolicy: Local, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ipFamilies: [IPv4], " + text + "}"
	}
	for _, tc := range []struct{ name, kind, stored, object, want string }{
		{"a set's service", "StatefulSet", set("serviceName: s"), set("serviceName: x"), `spec.serviceName: Invalid value: "x": field is immutable`},
		{"a set's policy", "StatefulSet", set("serviceName: s"), set("serviceName: s, podManagementPolicy: Parallel"), `spec.podManagementPolicy: Invalid value: "Parallel": field is immutable`},
		{"completions alone", "Job", job("completions: 3, parallelism: 3"), job("completions: 5, parallelism: 3"), `spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism`},
		{"completions with parallelism", "Job", job("completions: 3, parallelism: 3"), job("completions: 5, parallelism: 5"), ``},
		{"a port to ask for health", "Service", service("healthCheckNodePort: 30000"), service("healthCheckNodePort: 30001"), `spec.healthCheckNodePort: Forbidden: field is immutable`},
		{"a balancer's class", "Service", service("loadBalancerClass: a.b/c"), service("loadBalancerClass: a.b/d"), `spec.loadBalancerClass: Invalid value: "a.b/d": may not change once set`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := updateErrors(t, tc.kind, tc.object, tc.stored, false)
			if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("%s\nsays: %s\nwant: %s", tc.object, got, tc.want)
			}
		})
	}
}
