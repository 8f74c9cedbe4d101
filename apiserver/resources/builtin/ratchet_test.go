package builtin_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/resources/builtin"
)

// TestStoredObjectsStayWritable updates objects that an older server has let in.
// What was wrong with them before does not stop a change of something else; the
// same fault in one more place, or another fault there, does.
//
// Covers: api.validation
func TestStoredObjectsStayWritable(t *testing.T) {
	const container = "{name: c, image: i, terminationMessagePolicy: File, imagePullPolicy: Always"
	template := func(spec string) string {
		return "selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {" + spec + ", containers: [" + container + "}]}}"
	}
	affinity := func(values string) string {
		return template("affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchExpressions: [{key: a, operator: In, values: [" + values + "]}]}}]}}")
	}
	path := func(path string) string {
		return "{path: '" + path + "', pathType: Prefix, backend: {service: {name: s, port: {number: 1}}}}"
	}
	for _, tc := range []struct{ name, kind, stored, more, want string }{
		{"a label selector's value in a pod's affinity", "Deployment", "spec: {" + affinity("-1") + "}", "spec: {" + affinity("-1, -2") + "}", `values[1]: Invalid value: "-2"`},
		{"an ingress's path", "Ingress", "spec: {rules: [{http: {paths: [" + path("/a//b") + "]}}]}", "spec: {rules: [{http: {paths: [" + path("/c") + "," + path("/a//b") + "," + path("/a//b") + "]}}]}", `spec.rules[0].http.paths[2].path: Invalid value: "/a//b": must not contain '//'`},
		{"an address of an old form", "Service", "spec: {ports: [{port: 1}], externalIPs: [1.2.3.04]}", "spec: {ports: [{port: 1}], externalIPs: [1.2.3.04, 1.2.3.05]}", `spec.externalIPs[1]: Invalid value: "1.2.3.05"`},
		{"a network of an old form", "NetworkPolicy", "spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 010.0.0.0/8}}]}]}", "spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 011.0.0.0/8}}]}]}", `spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "011.0.0.0/8"`},
		{"a time zone", "CronJob", "spec: {schedule: '* * * * *', timeZone: Nowhere, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [" + container + "}]}}}}}", "spec: {schedule: '* * * * *', timeZone: Elsewhere, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [" + container + "}]}}}}}", `spec.timeZone: Invalid value: "Elsewhere"`},
		{"a budget's selector", "PodDisruptionBudget", "spec: {selector: {matchLabels: {a: -x-}}}", "spec: {selector: {matchLabels: {a: -y-}}}", `spec.selector.matchLabels: Invalid value: "-y-"`},
		{"a claim's template", "StatefulSet", "spec: {serviceName: s, " + template("restartPolicy: Always") + ", volumeClaimTemplates: [{metadata: {name: data}}]}", "spec: {serviceName: s, " + template("restartPolicy: Never") + ", volumeClaimTemplates: [{metadata: {name: data}}]}", `spec.template.spec.restartPolicy: Unsupported value: "Never"`},
		{"a volume's class", "PersistentVolume", "spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, storageClassName: A_B, hostPath: {path: /a}}", "spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, storageClassName: C_D, hostPath: {path: /a}}", `spec.storageClassName: Invalid value: "C_D"`},
		{"a hook's condition", "ValidatingWebhookConfiguration", "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://h'}, matchConditions: [{name: a, expression: what.is}]}]", "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://h'}, matchConditions: [{name: a, expression: what.is}, {name: b, expression: what.was}]}]", `matchConditions[1].expression: Invalid value: "what.was"`},
		{"an endpoint's host", "EndpointSlice", "{addressType: IPv4, endpoints: [{addresses: [1.2.3.4], hostname: 'a b'}]}", "{addressType: IPv4, endpoints: [{addresses: [1.2.3.4], hostname: 'b c'}]}", `endpoints[0].hostname: Invalid value: "b c"`},
		{"a target of an autoscaler", "HorizontalPodAutoscaler", "spec: {scaleTargetRef: {kind: Deployment, name: d}, maxReplicas: 1}", "spec: {scaleTargetRef: {kind: Deployment, name: e}, maxReplicas: 1}", `spec.scaleTargetRef.apiVersion: Invalid value: ""`},
		{"a text that errors do not show", "ClusterTrustBundle", "spec: {trustBundle: text}", "spec: {trustBundle: other}", `spec.trustBundle: Invalid value`},
		{"a name that is too long", "Deployment", "spec: {" + template("hostnameOverride: "+strings.Repeat("a", 70)) + "}", "spec: {" + template("hostnameOverride: "+strings.Repeat("b", 70)) + "}", `spec.template.spec.hostnameOverride: Too long`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := updateErrors(t, tc.kind, tc.stored, tc.stored, true); got != "" {
				t.Errorf("a label is refused: %s", got)
			}
			if got := updateErrors(t, tc.kind, tc.more, tc.stored, false); !strings.Contains(got, tc.want) {
				t.Errorf("one more fault\nsays: %s\nwant: %s", got, tc.want)
			}
			valid := createErrors(t, tc.kind, tc.stored)
			if tc.kind != "StatefulSet" && valid == "" {
				t.Error("the stored object is valid: it shows nothing")
			}
		})
	}
}

// updateErrors is what the validation of a kind says of an update.
func updateErrors(t *testing.T, kind, text, stored string, labelled bool) string {
	t.Helper()
	for _, r := range builtin.Resources() {
		if r.Kind != kind {
			continue
		}
		for _, v := range r.Versions {
			if v.Name != r.Hub {
				continue
			}
			read := func(text string) runtime.Object {
				obj := v.New()
				if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
					t.Fatal(err)
				}
				if v.Default != nil {
					v.Default(obj)
				}
				m, err := meta.Accessor(obj)
				if err != nil {
					t.Fatal(err)
				}
				m.SetName("a")
				m.SetResourceVersion("1")
				return obj
			}
			obj, old := read(text), read(stored)
			if labelled {
				m, _ := meta.Accessor(obj)
				m.SetLabels(map[string]string{"new": "label"})
			}
			if err := r.Strategy.ValidateUpdate(t.Context(), obj, old).ToAggregate(); err != nil {
				return err.Error()
			}
			return ""
		}
	}
	t.Fatalf("no kind %s", kind)
	return ""
}
