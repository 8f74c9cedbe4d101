package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// nodeObject is a kind of object, and how one of it looks.
type nodeObject struct {
	resource string // group/version/resource, or version/resource
	kind     string
	cluster  bool
	body     string // JSON of what is beside the metadata
	update   string // JSON of what an update changes
	status   string // JSON of the status, where it has one
}

func (o nodeObject) gvr() schema.GroupVersionResource {
	parts := strings.Split("/"+o.resource, "/")
	parts = parts[len(parts)-3:]
	return schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
}

func nodeObjects() map[string]nodeObject {
	request := `"spec":{"devices":{"requests":[{"name":"req-0","exactly":{"deviceClassName":"example.com"}}]}}`
	return map[string]nodeObject{
		// Conformance: [sig-node] ConfigMap should run through a ConfigMap lifecycle
		// Conformance: [sig-node] ConfigMap should update ConfigMap successfully
		"configmap": {resource: "v1/configmaps", kind: "ConfigMap", body: `{"data":{"valueName":"value"}}`, update: `{"data":{"valueName":"other"}}`},
		// Conformance: [sig-node] Secrets should patch a secret
		"secret": {resource: "v1/secrets", kind: "Secret", body: `{"type":"Opaque","data":{"key":"dmFsdWU="}}`, update: `{"data":{"key":"dmFsdWUx"}}`},
		// Conformance: [sig-node] PodTemplates should run the lifecycle of PodTemplates
		// Conformance: [sig-node] PodTemplates should replace a pod template
		// Conformance: [sig-node] PodTemplates should delete a collection of pod templates
		"podtemplate": {resource: "v1/podtemplates", kind: "PodTemplate", body: `{"template":{"spec":{"containers":[{"name":"nginx","image":"nginx"}]}}}`,
			update: `{"template":{"metadata":{"labels":{"a":"b"}}}}`},
		// Conformance: [sig-node] Lease lease API should be available
		"lease": {resource: "coordination.k8s.io/v1/leases", kind: "Lease",
			body:   `{"spec":{"holderIdentity":"holder","leaseDurationSeconds":30,"acquireTime":"2026-01-02T03:04:05.000006Z","renewTime":"2026-01-02T03:04:10.000000Z","leaseTransitions":0}}`,
			update: `{"spec":{"holderIdentity":"holder2","leaseDurationSeconds":60,"leaseTransitions":1}}`},
		// Conformance: [sig-node] RuntimeClass should support RuntimeClasses API operations
		"runtimeclass": {resource: "node.k8s.io/v1/runtimeclasses", kind: "RuntimeClass", cluster: true, body: `{"handler":"handler"}`},
		// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass
		"deviceclass": {resource: "resource.k8s.io/v1/deviceclasses", kind: "DeviceClass", cluster: true,
			body:   `{"spec":{"selectors":[{"cel":{"expression":"device.driver == \"example.com\""}}]}}`,
			update: `{"spec":{"selectors":[{"cel":{"expression":"device.driver == \"other.example.com\""}}]}}`},
		// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceTaintRule
		"devicetaintrule": {resource: "resource.k8s.io/v1/devicetaintrules", kind: "DeviceTaintRule", cluster: true,
			body:   `{"spec":{"deviceSelector":{"driver":"example.com","pool":"pool"},"taint":{"key":"example.com/taint","value":"a","effect":"NoSchedule"}}}`,
			update: `{"spec":{"taint":{"value":"b"}}}`,
			status: `{"conditions":[{"type":"EvictionInProgress","status":"True","reason":"Testing","message":"under test","lastTransitionTime":"2026-01-02T03:04:05Z"}]}`},
		// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim
		"resourceclaim": {resource: "resource.k8s.io/v1/resourceclaims", kind: "ResourceClaim", body: "{" + request + "}",
			status: `{"allocation":{"devices":{"results":[{"request":"req-0","driver":"example.com","pool":"pool","device":"dev-0"}]}}}`},
		// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate
		"resourceclaimtemplate": {resource: "resource.k8s.io/v1/resourceclaimtemplates", kind: "ResourceClaimTemplate", body: `{"spec":{` + request + `}}`},
		// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice
		"resourceslice": {resource: "resource.k8s.io/v1/resourceslices", kind: "ResourceSlice", cluster: true,
			body:   `{"spec":{"driver":"example.com","nodeName":"unknown","pool":{"name":"pool","generation":1,"resourceSliceCount":1},"devices":[{"name":"dev-0"}]}}`,
			update: `{"spec":{"pool":{"generation":2},"devices":[{"name":"dev-0"},{"name":"dev-1"}]}}`},
	}
}

func TestNodeObjects(t *testing.T) {
	for name, o := range nodeObjects() {
		t.Run(name, func(t *testing.T) {
			l := &nodeLifecycle{space: parallel(t), o: o}
			l.all = l.dynamic.Resource(o.gvr())
			if l.objects = l.all.Namespace(l.name); o.cluster {
				l.objects = l.all
			}
			l.discovered()
			l.lives()
			for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType, types.JSONPatchType, types.ApplyPatchType} {
				l.patched(kind)
			}
			l.collected()
		})
	}
}

// nodeLifecycle takes objects of one kind through all verbs.
type nodeLifecycle struct {
	*space
	o       nodeObject
	all     dynamic.NamespaceableResourceInterface
	objects dynamic.ResourceInterface
}

// make makes an object with the label that tells this test's from others'.
func (l *nodeLifecycle) make(suffix string) *unstructured.Unstructured {
	l.t.Helper()
	u := &unstructured.Unstructured{}
	l.must(json.Unmarshal([]byte(l.o.body), &u.Object))
	gvr := l.o.gvr()
	u.SetGroupVersionKind(gvr.GroupVersion().WithKind(l.o.kind))
	u.SetName(l.name + suffix)
	u.SetLabels(map[string]string{"space": l.name})
	out, err := l.objects.Create(l.ctx, u, metav1.CreateOptions{FieldValidation: "Strict"})
	l.must(err)
	if missing := lacks(out.Object, u.Object); missing != "" {
		l.t.Errorf("what was made lacks %s", missing)
	}
	return out
}

// lacks names a part of want that is not in have.
func lacks(have, want any) string {
	switch want := want.(type) {
	case map[string]any:
		h, _ := have.(map[string]any)
		for k, v := range want {
			if m := lacks(h[k], v); m != "" {
				return k + "." + m
			}
		}
	case []any:
		h, _ := have.([]any)
		if len(h) != len(want) {
			return fmt.Sprintf("a list of %d, has %d", len(want), len(h))
		}
		for i := range want {
			if m := lacks(h[i], want[i]); m != "" {
				return fmt.Sprintf("%d.%s", i, m)
			}
		}
	default:
		if fmt.Sprint(have) != fmt.Sprint(want) {
			return fmt.Sprintf("value %v, is %v", want, have)
		}
	}
	return ""
}

// merged lays JSON over an object.
func (l *nodeLifecycle) merged(u *unstructured.Unstructured, text string) map[string]any {
	l.t.Helper()
	var over map[string]any
	l.must(json.Unmarshal([]byte(text), &over))
	merge(u.Object, over)
	return over
}

func merge(into, over map[string]any) {
	for k, v := range over {
		if inner, ok := into[k].(map[string]any); ok {
			if o, ok := v.(map[string]any); ok {
				merge(inner, o)
				continue
			}
		}
		into[k] = v
	}
}

func (l *nodeLifecycle) selector() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: "space=" + l.name}
}

// discovered looks for the kind in the discovery documents.
func (l *nodeLifecycle) discovered() {
	l.t.Helper()
	gvr := l.o.gvr()
	if gvr.Group != "" {
		groups, err := l.client.Discovery().ServerGroups()
		l.must(err)
		if !slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool {
			return g.Name == gvr.Group && slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.Version == gvr.Version })
		}) {
			l.t.Errorf("/apis lacks %s/%s", gvr.Group, gvr.Version)
		}
		var group metav1.APIGroup
		b, err := l.client.Discovery().RESTClient().Get().AbsPath("/apis/"+gvr.Group).SetHeader("Accept", "application/json").DoRaw(l.ctx)
		l.must(err)
		l.must(json.Unmarshal(b, &group))
		if !slices.ContainsFunc(group.Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.Version == gvr.Version }) {
			l.t.Errorf("/apis/%s lacks version %s", gvr.Group, gvr.Version)
		}
	}
	list, err := l.client.Discovery().ServerResourcesForGroupVersion(gvr.GroupVersion().String())
	l.must(err)
	for _, r := range list.APIResources {
		if r.Name != gvr.Resource {
			continue
		}
		for _, verb := range []string{"create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"} {
			if !slices.Contains(r.Verbs, verb) {
				l.t.Errorf("%s lacks the verb %s: %v", r.Name, verb, r.Verbs)
			}
		}
		return
	}
	l.t.Errorf("%s lacks %s", gvr.GroupVersion(), gvr.Resource)
}

// lives makes, reads, lists, watches, updates and deletes an object.
func (l *nodeLifecycle) lives() {
	l.t.Helper()
	before, err := l.objects.List(l.ctx, l.selector())
	l.must(err)
	opts := l.selector()
	opts.ResourceVersion = before.GetResourceVersion()
	w, err := l.objects.Watch(l.ctx, opts)
	l.must(err)
	defer w.Stop()
	made := l.make("")
	l.saw(w, watch.Added)
	if _, err := l.objects.Create(l.ctx, made, metav1.CreateOptions{}); err == nil {
		l.t.Error("the same object is made twice")
	}
	got, err := l.objects.Get(l.ctx, made.GetName(), metav1.GetOptions{})
	l.must(err)
	if m := lacks(got.Object, made.Object); m != "" {
		l.t.Errorf("what is read lacks %s", m)
	}
	for _, from := range []dynamic.ResourceInterface{l.objects, l.all} {
		list, err := from.List(l.ctx, l.selector())
		l.must(err)
		if len(list.Items) != 1 || lacks(list.Items[0].Object, made.Object) != "" {
			l.t.Errorf("the list has %d objects", len(list.Items))
		}
	}
	got.SetAnnotations(map[string]string{"updated": "true"})
	want := map[string]any{}
	if l.o.update != "" {
		want = l.merged(got, l.o.update)
	}
	updated, err := l.objects.Update(l.ctx, got, metav1.UpdateOptions{FieldValidation: "Strict"})
	l.must(err)
	if m := lacks(updated.Object, want); m != "" || updated.GetAnnotations()["updated"] != "true" || updated.GetResourceVersion() == made.GetResourceVersion() {
		l.t.Errorf("what was updated lacks %s", m)
	}
	l.saw(w, watch.Modified)
	if l.o.status != "" {
		want := l.merged(updated, `{"status":`+l.o.status+`}`)
		updated, err = l.objects.UpdateStatus(l.ctx, updated, metav1.UpdateOptions{FieldValidation: "Strict"})
		l.must(err)
		read, err := l.objects.Get(l.ctx, made.GetName(), metav1.GetOptions{}, "status")
		l.must(err)
		if a, b := lacks(updated.Object, want), lacks(read.Object, want); a+b != "" {
			l.t.Errorf("the status lacks %s; read: %s", a, b)
		}
	}
	l.gone(made.GetName())
	l.saw(w, watch.Deleted)
}

// patched patches a new object, and its status.
func (l *nodeLifecycle) patched(kind types.PatchType) {
	l.t.Helper()
	made := l.make("")
	defer l.gone(made.GetName())
	opts := metav1.PatchOptions{FieldValidation: "Strict"}
	form := func(over string) []byte {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": made.GetAPIVersion(), "kind": made.GetKind()}}
		u.SetName(made.GetName())
		u.SetUID(made.GetUID())
		l.merged(u, over)
		b, err := json.Marshal(u.Object)
		l.must(err)
		return b
	}
	patch, status := form(`{"metadata":{"labels":{"patched":"true"}}}`), []byte(nil)
	if l.o.status != "" {
		status = form(`{"status":` + l.o.status + `}`)
	}
	switch kind {
	case types.ApplyPatchType:
		force := true
		opts.FieldManager, opts.Force = "test-apply", &force
	case types.JSONPatchType:
		patch = []byte(`[{"op":"add","path":"/metadata/labels/patched","value":"true"}]`)
		status = []byte(`[{"op":"add","path":"/status","value":` + l.o.status + `}]`)
	}
	got, err := l.objects.Patch(l.ctx, made.GetName(), kind, patch, opts)
	if err != nil {
		l.t.Errorf("%s: %v", kind, err)
		return
	}
	if got.GetLabels()["patched"] != "true" || got.GetLabels()["space"] != l.name || lacks(got.Object["spec"], made.Object["spec"]) != "" {
		l.t.Errorf("%s: the result is %v", kind, got.Object)
	}
	if l.o.status == "" {
		return
	}
	got, err = l.objects.Patch(l.ctx, made.GetName(), kind, status, opts, "status")
	if err != nil {
		l.t.Errorf("%s of the status: %v", kind, err)
		return
	}
	if m := lacks(got.Object, l.merged(&unstructured.Unstructured{Object: map[string]any{}}, `{"status":`+l.o.status+`}`)); m != "" {
		l.t.Errorf("%s of the status: it lacks %s", kind, m)
	}
}

// collected deletes a collection.
func (l *nodeLifecycle) collected() {
	l.t.Helper()
	for i := range 3 {
		l.make(fmt.Sprintf("-%d", i))
	}
	l.must(l.objects.DeleteCollection(l.ctx, metav1.DeleteOptions{}, l.selector()))
	l.eventually(30*time.Second, "end of the collection", func() error {
		list, err := l.objects.List(l.ctx, l.selector())
		if err == nil && len(list.Items) > 0 {
			return fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
}

// gone deletes an object and waits until it cannot be found.
func (l *nodeLifecycle) gone(name string) {
	l.t.Helper()
	l.must(l.objects.Delete(l.ctx, name, metav1.DeleteOptions{}))
	l.eventually(30*time.Second, "end of "+name, func() error {
		_, err := l.objects.Get(l.ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is still there (%v)", err)
	})
}

// saw waits for an event of the watch.
func (l *nodeLifecycle) saw(w watch.Interface, kind watch.EventType) {
	l.t.Helper()
	end := time.After(30 * time.Second)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				l.t.Fatalf("the watch ended before it showed %s", kind)
			}
			if e.Type == kind {
				return
			}
		case <-end:
			l.t.Fatalf("the watch does not show %s", kind)
		}
	}
}

// Conformance: [sig-node] ConfigMap should fail to create ConfigMap with empty key
// Conformance: [sig-node] Secrets should fail to create secret due to empty secret key
func TestNodeEmptyKeys(t *testing.T) {
	s := parallel(t)
	meta := metav1.ObjectMeta{Name: "empty-key"}
	_, err := s.client.CoreV1().ConfigMaps(s.name).Create(s.ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"": "value"}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a ConfigMap with an empty key: %v", err)
	}
	_, err = s.client.CoreV1().Secrets(s.name).Create(s.ctx, &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"": []byte("value")}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a Secret with an empty key: %v", err)
	}
}
