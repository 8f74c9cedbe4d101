package apiserver_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
	"skiff/cluster/pki"
)

// podTemplate is what workloads run.
const podTemplate = `{metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: nginx}]}}`

// manifests hold the least of each resource, without kind, version and name.
var manifests = map[string]string{
	"configmaps":             `data: {k: v}`,
	"endpoints":              `subsets: [{addresses: [{ip: 198.51.100.1}], ports: [{port: 80}]}]`,
	"events":                 `{involvedObject: {kind: Pod, name: p, namespace: default}, reason: Made, message: m, type: Normal}`,
	"events.events.k8s.io":   `{regarding: {kind: Pod, name: p, namespace: default}, reason: Made, note: m, type: Normal, action: Make, eventTime: "2026-01-02T03:04:05.000000Z", reportingController: test, reportingInstance: t-1}`,
	"limitranges":            `spec: {limits: [{type: Container, default: {cpu: 100m}}]}`,
	"namespaces":             ``,
	"nodes":                  ``,
	"persistentvolumeclaims": `spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}`,
	"persistentvolumes":      `spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /tmp/x}}`,
	"pods":                   `spec: {containers: [{name: c, image: nginx}]}`,
	"podtemplates":           `template: ` + podTemplate,
	"replicationcontrollers": `spec: {replicas: 1, selector: {a: b}, template: ` + podTemplate + `}`,
	"resourcequotas":         `spec: {hard: {configmaps: "100"}}`,
	"secrets":                `stringData: {k: v}`,
	"serviceaccounts":        ``,
	"services":               `spec: {ports: [{port: 80}], selector: {a: b}}`,

	"controllerrevisions.apps": `{data: {a: b}, revision: 1}`,
	"daemonsets.apps":          `spec: {selector: {matchLabels: {a: b}}, template: ` + podTemplate + `}`,
	"deployments.apps":         `spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: ` + podTemplate + `}`,
	"replicasets.apps":         `spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: ` + podTemplate + `}`,
	"statefulsets.apps":        `spec: {serviceName: s, replicas: 1, selector: {matchLabels: {a: b}}, template: ` + podTemplate + `}`,

	"jobs.batch":     `spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: nginx}]}}}`,
	"cronjobs.batch": `spec: {schedule: "* * * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: nginx}]}}}}}`,

	"horizontalpodautoscalers.autoscaling": `spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}`,
	"poddisruptionbudgets.policy":          `spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}`,

	"ingresses.networking.k8s.io":       `spec: {rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}`,
	"ingressclasses.networking.k8s.io":  `spec: {controller: example.com/c}`,
	"networkpolicies.networking.k8s.io": `spec: {podSelector: {}}`,
	"servicecidrs.networking.k8s.io":    `spec: {cidrs: [10.97.0.0/24]}`,
	"endpointslices.discovery.k8s.io":   `{addressType: IPv4, endpoints: [{addresses: [198.51.100.1]}], ports: [{port: 80, name: ""}]}`,

	"roles.rbac.authorization.k8s.io":               `rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]`,
	"clusterroles.rbac.authorization.k8s.io":        `rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]`,
	"rolebindings.rbac.authorization.k8s.io":        `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: u, apiGroup: rbac.authorization.k8s.io}]}`,
	"clusterrolebindings.rbac.authorization.k8s.io": `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: u, apiGroup: rbac.authorization.k8s.io}]}`,

	"storageclasses.storage.k8s.io":          `provisioner: example.com/p`,
	"csidrivers.storage.k8s.io":              `spec: {attachRequired: false}`,
	"csinodes.storage.k8s.io":                `spec: {drivers: []}`,
	"csistoragecapacities.storage.k8s.io":    `{storageClassName: x, capacity: 1Gi}`,
	"volumeattachments.storage.k8s.io":       `spec: {attacher: a.example.com, nodeName: node1, source: {persistentVolumeName: p}}`,
	"volumeattributesclasses.storage.k8s.io": `{driverName: d.example.com, parameters: {a: b}}`,

	"leases.coordination.k8s.io":        `spec: {holderIdentity: x}`,
	"priorityclasses.scheduling.k8s.io": `value: 5`,
	"runtimeclasses.node.k8s.io":        `handler: h`,

	"flowschemas.flowcontrol.apiserver.k8s.io":                 `spec: {priorityLevelConfiguration: {name: global-default}, matchingPrecedence: 9000, rules: [{subjects: [{kind: User, user: {name: u}}], nonResourceRules: [{verbs: ["*"], nonResourceURLs: ["*"]}]}]}`,
	"prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": `spec: {type: Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Reject}}}`,

	"mutatingwebhookconfigurations.admissionregistration.k8s.io":     `webhooks: [{name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], failurePolicy: Ignore, clientConfig: {url: "https://127.0.0.1:1/x"}}]`,
	"validatingwebhookconfigurations.admissionregistration.k8s.io":   `webhooks: [{name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], failurePolicy: Ignore, clientConfig: {url: "https://127.0.0.1:1/x"}}]`,
	"validatingadmissionpolicies.admissionregistration.k8s.io":       `spec: {matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}, validations: [{expression: "true"}]}`,
	"validatingadmissionpolicybindings.admissionregistration.k8s.io": `spec: {policyName: none, validationActions: [Deny]}`,
	"mutatingadmissionpolicies.admissionregistration.k8s.io":         `spec: {reinvocationPolicy: Never, matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'x': 'y'}}}"}}]}`,
	"mutatingadmissionpolicybindings.admissionregistration.k8s.io":   `spec: {policyName: none}`,
	"customresourcedefinitions.apiextensions.k8s.io":                 `spec: {group: example.com, scope: Namespaced, names: {plural: things, singular: thing, kind: Thing}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}`,
	"apiservices.apiregistration.k8s.io":                             `spec: {group: other.example.com, version: v1, groupPriorityMinimum: 100, versionPriority: 10, insecureSkipTLSVerify: true, service: {name: s, namespace: default}}`,

	"leasecandidates.coordination.k8s.io":              `spec: {leaseName: l, binaryVersion: 1.37.0, emulationVersion: 1.37.0, strategy: OldestEmulationVersion}`,
	"ipaddresses.networking.k8s.io":                    `spec: {parentRef: {resource: services, name: s, namespace: default}}`,
	"devicetaintrules.resource.k8s.io":                 `spec: {deviceSelector: {driver: d.example.com}, taint: {key: k, value: v, effect: NoSchedule}}`,
	"storageversionmigrations.storagemigration.k8s.io": `spec: {resource: {group: apps, resource: deployments}}`,
	"deviceclasses.resource.k8s.io":                    `spec: {selectors: [{cel: {expression: "true"}}]}`,
	"resourceclaims.resource.k8s.io":                   `spec: {}`,
	"resourceclaimtemplates.resource.k8s.io":           `spec: {spec: {}}`,
	"resourceslices.resource.k8s.io":                   `spec: {driver: d.example.com, nodeName: node1, pool: {name: p, generation: 1, resourceSliceCount: 1}}`,
}

// names are of those whose name is not free.
var names = map[string]string{
	"customresourcedefinitions.apiextensions.k8s.io": "things.example.com",
	"apiservices.apiregistration.k8s.io":             "v1.other.example.com",
	"ipaddresses.networking.k8s.io":                  "198.51.100.9",
}

// rewritten are those whose defaults depend on what else is stored: reading adds
// to what was written, so the first update writes.
var rewritten = map[string]bool{"jobs": true, "horizontalpodautoscalers": true}

// served lists the resources of discovery by resource and group; subresources apart.
func served(t *testing.T, s *apiservertest.Server) (main map[schema.GroupVersionResource]metav1.APIResource, subs map[schema.GroupVersionResource][]string) {
	t.Helper()
	_, lists, err := s.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	main, subs = map[schema.GroupVersionResource]metav1.APIResource{}, map[schema.GroupVersionResource][]string{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l.APIResources {
			name, sub, is := strings.Cut(r.Name, "/")
			if is {
				subs[gv.WithResource(name)] = append(subs[gv.WithResource(name)], sub)
				continue
			}
			main[gv.WithResource(name)] = r
		}
	}
	return main, subs
}

// TestEveryKind takes an object of every kind through its life.
//
// Covers: api.every-kind
func TestEveryKind(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.RuntimeConfig = map[string]bool{"api/beta": true} })
	// Nobody makes it here, and Pods need one.
	if _, err := s.Client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all, subs := served(t, s)
	for _, gvr := range slices.SortedFunc(maps.Keys(all), func(a, b schema.GroupVersionResource) int {
		return strings.Compare(a.String(), b.String())
	}) {
		r := all[gvr]
		body, known := manifests[gvr.GroupResource().String()]
		known = known || r.Kind == "CertificateSigningRequest"
		if !slices.Contains(r.Verbs, "create") || !known {
			if slices.Contains(r.Verbs, "create") && slices.Contains(r.Verbs, "get") && !known {
				t.Logf("no manifest for %s", gvr)
			}
			continue
		}
		t.Run(gvr.Group+"/"+gvr.Version+"/"+gvr.Resource, func(t *testing.T) { life(t, s, gvr, r, subs[gvr], body) })
	}
}

func life(t *testing.T, s *apiservertest.Server, gvr schema.GroupVersionResource, r metav1.APIResource, subs []string, body string) {
	ctx := t.Context()
	if r.Kind == "CertificateSigningRequest" {
		body = signingRequest(t)
	}
	obj := map[string]any{}
	if err := yaml.Unmarshal([]byte(body), &obj); err != nil {
		t.Fatal(err)
	}
	if obj == nil {
		obj = map[string]any{}
	}
	u := &unstructured.Unstructured{Object: obj}
	u.SetAPIVersion(gvr.GroupVersion().String())
	u.SetKind(r.Kind)
	name := "life-" + gvr.Version
	if n := names[gvr.GroupResource().String()]; n != "" {
		name = n
	}
	u.SetName(name)
	var c dynamic.ResourceInterface = s.Dynamic.Resource(gvr)
	if r.Namespaced {
		c = s.Dynamic.Resource(gvr).Namespace("default")
		u.SetNamespace("default")
	}
	dry := metav1.CreateOptions{DryRun: []string{"All"}, FieldManager: "m", FieldValidation: "Strict"}
	tried, err := c.Create(ctx, u.DeepCopy(), dry)
	if err != nil {
		t.Fatalf("dry run: %v", err)
	}
	if tried.GetUID() == "" && r.Kind != "Event" {
		t.Error("a dry run gives no uid")
	}
	if _, err := c.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("after the dry run: %v", err)
	}
	made, err := c.Create(ctx, u.DeepCopy(), metav1.CreateOptions{FieldManager: "m", FieldValidation: "Strict"})
	if err != nil {
		t.Fatal(err)
	}
	if made.GetUID() == "" || made.GetResourceVersion() == "" || made.GetCreationTimestamp().Time.IsZero() || (len(made.GetManagedFields()) == 0 && !bare(body)) {
		t.Errorf("metadata of a new object: %v", made.Object["metadata"])
	}
	if made.GetKind() != r.Kind || made.GetAPIVersion() != gvr.GroupVersion().String() {
		t.Errorf("type %s %s", made.GetAPIVersion(), made.GetKind())
	}
	if _, err := c.Create(ctx, u.DeepCopy(), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	t.Run("update", func(t *testing.T) {
		// A controller of the server may write meanwhile to these.
		watched := gvr.Group == "apiextensions.k8s.io" || gvr.Group == "apiregistration.k8s.io" || gvr.Group == "flowcontrol.apiserver.k8s.io"
		got, err := c.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !watched {
			same, err := c.Update(ctx, got.DeepCopy(), metav1.UpdateOptions{FieldManager: "m", FieldValidation: "Strict"})
			if err != nil {
				t.Fatal(err)
			}
			if same.GetResourceVersion() != got.GetResourceVersion() && !rewritten[gvr.Resource] {
				t.Errorf("an update that changes nothing wrote (-was +is):\n%s", cmp.Diff(got.Object, same.Object))
			}
		}
		var next *unstructured.Unstructured
		err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			if got, err = c.Get(ctx, name, metav1.GetOptions{}); err != nil {
				return err
			}
			labels := got.GetLabels()
			if labels == nil {
				labels = map[string]string{}
			}
			labels["x"] = "y"
			got.SetLabels(labels)
			next, err = c.Update(ctx, got, metav1.UpdateOptions{FieldManager: "m"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := made.GetGeneration()
		if gvr.Resource == "endpointslices" { // found by their labels
			want++
		}
		if next.GetGeneration() != want {
			t.Errorf("a change of labels made generation %d of %d, want %d", next.GetGeneration(), made.GetGeneration(), want)
		}
		if _, err := c.Update(ctx, got, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("an update of an old version: %v", err)
		}
	})
	for kind, patch := range map[types.PatchType]string{
		types.MergePatchType: `{"metadata":{"annotations":{"merge":"1"}}}`,
		types.JSONPatchType:  `[{"op":"add","path":"/metadata/labels/json","value":"1"}]`,
	} {
		if _, err := c.Patch(ctx, name, kind, []byte(patch), metav1.PatchOptions{FieldManager: "p"}); err != nil {
			t.Errorf("patch %s: %v", kind, err)
		}
	}
	_, err = c.Patch(ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"annotations":{"strategic":"1"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Errorf("strategic patch: %v", err)
	}
	t.Run("apply", func(t *testing.T) {
		a := &unstructured.Unstructured{Object: map[string]any{}}
		a.SetAPIVersion(u.GetAPIVersion())
		a.SetKind(u.GetKind())
		a.SetName(name)
		a.SetNamespace(u.GetNamespace())
		a.SetLabels(map[string]string{"applied": "1"})
		got, err := c.Apply(ctx, name, a, metav1.ApplyOptions{FieldManager: "applier"})
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Apply(ctx, name, a, metav1.ApplyOptions{FieldManager: "applier"})
		if err != nil {
			t.Fatal(err)
		}
		if got.GetResourceVersion() != again.GetResourceVersion() {
			t.Error("the same configuration twice changes the object")
		}
		a.SetLabels(nil)
		if got, err = c.Apply(ctx, name, a, metav1.ApplyOptions{FieldManager: "applier"}); err != nil {
			t.Fatal(err)
		}
		if got.GetLabels()["applied"] != "" || got.GetLabels()["x"] != "y" {
			t.Errorf("labels after giving one up: %v", got.GetLabels())
		}
	})
	if slices.Contains(subs, "status") {
		t.Run("status", func(t *testing.T) {
			got, err := c.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Get(ctx, name, metav1.GetOptions{}, "status"); err != nil {
				t.Error(err)
			}
			if _, err := c.UpdateStatus(ctx, got, metav1.UpdateOptions{FieldManager: "s"}); err != nil {
				t.Error(err)
			}
			if _, err := c.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"status":"1"}},"status":{}}`), metav1.PatchOptions{FieldManager: "s"}, "status"); err != nil {
				t.Error(err)
			}
		})
	}
	path := paths(gvr, u.GetNamespace()) + "/" + name
	for _, accept := range []string{"application/json", "application/yaml", "application/cbor", "application/vnd.kubernetes.protobuf",
		"application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
		"application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"} {
		if a := s.Call(t, "GET", path, "", "Accept", accept); a.Code != 200 {
			t.Errorf("GET as %s: %d %s", accept, a.Code, a.Body)
		}
		list := strings.ReplaceAll(accept, "PartialObjectMetadata", "PartialObjectMetadataList")
		if a := s.Call(t, "GET", paths(gvr, u.GetNamespace())+"?limit=2", "", "Accept", list); a.Code != 200 {
			t.Errorf("list as %s: %d %s", list, a.Code, a.Body)
		}
	}
	uid := made.GetUID()
	zero := int64(0)
	wrong := types.UID("wrong")
	if err := c.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}}); !apierrors.IsConflict(err) {
		t.Errorf("delete with another uid: %v", err)
	}
	if err := c.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if err := gone(ctx, c, name); err != nil {
		t.Error(err)
	}
}

// signingRequest is a manifest with a request of a key of its own.
func signingRequest(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey(pki.Algorithms()[0])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "u"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return "spec: {signerName: example.com/s, usages: [client auth], request: " + base64.StdEncoding.EncodeToString(block) + "}"
}

// bare tells whether a manifest sets no field that has an owner.
func bare(body string) bool {
	return body == "" || strings.HasPrefix(body, "spec: {}") || body == "spec: {spec: {}}"
}

// gone tells why an object has not gone; what waits for a finalizer of the
// system is as good as gone, since nobody removes them here.
func gone(ctx context.Context, c dynamic.ResourceInterface, name string) error {
	got, err := c.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if got.GetDeletionTimestamp() == nil {
		return fmt.Errorf("%s is not being deleted", name)
	}
	inSpec, _, _ := unstructured.NestedSlice(got.Object, "spec", "finalizers")
	if len(got.GetFinalizers()) == 0 && len(inSpec) == 0 {
		return fmt.Errorf("%s waits for nothing", name)
	}
	return nil
}

// paths is the URL path of a collection.
func paths(gvr schema.GroupVersionResource, namespace string) string {
	p := "/apis/" + gvr.Group + "/" + gvr.Version
	if gvr.Group == "" {
		p = "/api/" + gvr.Version
	}
	if namespace != "" {
		p += "/namespaces/" + namespace
	}
	return p + "/" + gvr.Resource
}

// TestUpdateWithoutVersion sends what PUT may and may not overwrite unseen.
func TestUpdateWithoutVersion(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.RuntimeConfig = map[string]bool{"api/all": true} })
	const rule = `"metadata":{"name":"u"},"spec":{"taint":{"key":"k","effect":"NoSchedule"}}`
	for _, tc := range []struct {
		collection, object string
		code               int
		message            string
	}{
		{"/apis/policy/v1/namespaces/default/poddisruptionbudgets", `{"metadata":{"name":"u"}}`, 422,
			`poddisruptionbudgets.policy "u" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`},
		{"/apis/coordination.k8s.io/v1/namespaces/default/leases", `{"metadata":{"name":"u"}}`, 422,
			`leases.coordination.k8s.io "u" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`},
		{"/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"u"}}`, 200, ""},
		{"/apis/resource.k8s.io/v1/devicetaintrules", `{` + rule + `}`, 422,
			`devicetaintrules.resource.k8s.io "u" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`},
		{"/apis/resource.k8s.io/v1beta2/devicetaintrules", `{` + rule + `}`, 200, ""},
	} {
		t.Run(tc.collection, func(t *testing.T) {
			if a := s.Call(t, "POST", tc.collection, tc.object); a.Code != 201 && a.Code != 409 {
				t.Fatalf("create: %d %s", a.Code, a.Body)
			}
			a := s.Call(t, "PUT", tc.collection+"/u", tc.object)
			var st struct{ Message string }
			if err := json.Unmarshal(a.Body, &st); err != nil {
				t.Fatal(err)
			}
			if a.Code != tc.code || st.Message != tc.message {
				t.Errorf("update: %d %s; want %d %q", a.Code, a.Body, tc.code, tc.message)
			}
		})
	}
}
