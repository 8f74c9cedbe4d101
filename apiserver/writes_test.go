package apiserver_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"skiff/apiserver/apiservertest"
)

func deployment(name string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}}},
			},
		},
	}
}

// TestPatches changes objects by every kind of patch.
//
// Covers: api.patch
func TestPatches(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "patches")
	ds := s.Client.AppsV1().Deployments(ns)
	if _, err := ds.Create(ctx, deployment("d"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kind        types.PatchType
		patch       string
		subresource []string
		check       func(*appsv1.Deployment) string
		fails       string
		code        int32
	}{
		"strategic merges by key": {kind: types.StrategicMergePatchType, patch: `{"spec":{"template":{"spec":{"containers":[{"name":"x","image":"i"}]}}}}`,
			check: func(d *appsv1.Deployment) string { return fmt.Sprint(len(d.Spec.Template.Spec.Containers)) + "=2" }},
		"strategic deletes by key": {kind: types.StrategicMergePatchType, patch: `{"spec":{"template":{"spec":{"containers":[{"name":"x","$patch":"delete"}]}}}}`,
			check: func(d *appsv1.Deployment) string { return fmt.Sprint(len(d.Spec.Template.Spec.Containers)) + "=1" }},
		"strategic replaces": {kind: types.StrategicMergePatchType, patch: `{"metadata":{"labels":{"$patch":"replace","q":"1"}}}`,
			check: func(d *appsv1.Deployment) string { return fmt.Sprint(d.Labels) + "=map[q:1]" }},
		"merge replaces lists": {kind: types.MergePatchType, patch: `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"}]}}}}`,
			check: func(d *appsv1.Deployment) string { return d.Spec.Template.Spec.Containers[0].Image + "=j" }},
		"merge removes": {kind: types.MergePatchType, patch: `{"metadata":{"labels":null}}`,
			check: func(d *appsv1.Deployment) string { return fmt.Sprint(len(d.Labels)) + "=0" }},
		"json": {kind: types.JSONPatchType, patch: `[{"op":"test","path":"/spec/replicas","value":1},{"op":"replace","path":"/spec/replicas","value":3}]`,
			check: func(d *appsv1.Deployment) string { return fmt.Sprint(*d.Spec.Replicas) + "=3" }},
		"json test fails": {kind: types.JSONPatchType, patch: `[{"op":"test","path":"/spec/replicas","value":99}]`, fails: "the server rejected our request due to an error in our request", code: 422},
		"json no path":    {kind: types.JSONPatchType, patch: `[{"op":"replace","path":"/spec/none/none","value":99}]`, fails: "the server rejected our request due to an error in our request", code: 422},
		"json garbage":    {kind: types.JSONPatchType, patch: `{"a":1}`, fails: "json: cannot unmarshal object", code: 400},
		"merge garbage":   {kind: types.MergePatchType, patch: `[`, fails: "", code: 400},
		"invalid":         {kind: types.MergePatchType, patch: `{"spec":{"replicas":-1}}`, fails: `Deployment.apps "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`, code: 422},
		"immutable":       {kind: types.MergePatchType, patch: `{"spec":{"selector":{"matchLabels":{"z":"z"}}}}`, fails: "field is immutable", code: 422},
		"other name":      {kind: types.MergePatchType, patch: `{"metadata":{"name":"e"}}`, fails: "does not match the name on the URL (d)", code: 400},
		"old version":     {kind: types.MergePatchType, patch: `{"metadata":{"resourceVersion":"1"}}`, fails: "the object has been modified; please apply your changes to the latest version and try again", code: 409},
		"status is apart": {kind: types.MergePatchType, patch: `{"status":{"replicas":8}}`,
			check: func(d *appsv1.Deployment) string { return fmt.Sprint(d.Status.Replicas == 8) + "=false" }},
		"status alone": {kind: types.MergePatchType, patch: `{"status":{"replicas":7},"spec":{"replicas":9}}`, subresource: []string{"status"},
			check: func(d *appsv1.Deployment) string {
				return fmt.Sprint(d.Status.Replicas, *d.Spec.Replicas == 9) + "=7 false"
			}},
		"scale": {kind: types.MergePatchType, patch: `{"spec":{"replicas":5}}`, subresource: []string{"scale"},
			check: func(*appsv1.Deployment) string { return "=" }},
		"scale is done": {kind: types.MergePatchType, patch: `{}`, check: func(*appsv1.Deployment) string { return "=" }},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "strategic deletes") || strings.HasPrefix(name, "strategic replaces") || strings.HasPrefix(name, "json") || strings.HasPrefix(name, "scale") {
				// Runs in any order: what it needs is made first.
				for _, p := range []string{`{"metadata":{"labels":{"p":"1"}},"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c","image":"j"},{"name":"x","image":"j"}]}}}}`} {
					if _, err := ds.Patch(ctx, "d", types.MergePatchType, []byte(p), metav1.PatchOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if name == "strategic merges by key" {
				if _, err := ds.Patch(ctx, "d", types.MergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"}]}}}}`), metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ds.Patch(ctx, "d", tc.kind, []byte(tc.patch), metav1.PatchOptions{}, tc.subresource...)
			if tc.check == nil {
				var st apierrors.APIStatus
				if err == nil || !asStatus(err, &st) || !contains(err.Error(), tc.fails) || st.Status().Code != tc.code {
					t.Fatalf("got %v (%+v), want %d %q", err, st, tc.code, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if left, right, _ := strings.Cut(tc.check(got), "="); left != right {
				t.Errorf("got %s, want %s in %+v", left, right, got.Spec)
			}
		})
	}
	t.Run("apply", func(t *testing.T) {
		cms := s.Client.CoreV1().ConfigMaps(ns)
		apply := func(manager, data string, force bool) (*corev1.ConfigMap, error) {
			o := metav1.PatchOptions{FieldManager: manager}
			if force {
				o.Force = &force
			}
			return cms.Patch(ctx, "applied", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied"},"data":`+data+`}`), o)
		}
		if _, err := apply("one", `{"k":"1"}`, false); err != nil {
			t.Fatal(err)
		}
		_, err := apply("two", `{"k":"2","l":"2"}`, false)
		if !apierrors.IsConflict(err) || err.Error() != `Apply failed with 1 conflict: conflict with "one": .data.k` {
			t.Errorf("a conflict: %v", err)
		}
		var st apierrors.APIStatus
		if asStatus(err, &st) && (len(st.Status().Details.Causes) != 1 || st.Status().Details.Causes[0].Type != metav1.CauseTypeFieldManagerConflict) {
			t.Errorf("causes %+v", st.Status().Details)
		}
		got, err := apply("two", `{"k":"2","l":"2"}`, true)
		if err != nil || got.Data["k"] != "2" || len(got.ManagedFields) != 1 {
			t.Fatalf("forced: %+v, %v", got, err)
		}
		if got, err = apply("two", `{"l":"2"}`, false); err != nil || len(got.Data) != 1 {
			t.Errorf("given up: %+v, %v", got, err)
		}
		for name, tc := range map[string]struct{ body, query, want string }{
			"no manager":    {`{"apiVersion":"v1","kind":"ConfigMap"}`, "", "fieldManager: Required value: is required for apply patch"},
			"managedFields": {`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"managedFields":[{}]}}`, "fieldManager=x", "metadata.managedFields must be nil"},
			"no kind":       {`{"data":{}}`, "fieldManager=x", ""},
			"other name":    {`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"zzz"}}`, "fieldManager=x", "does not match"},
		} {
			a := s.Call(t, "PATCH", "/api/v1/namespaces/"+ns+"/configmaps/applied?"+tc.query, tc.body, "Content-Type", "application/apply-patch+yaml")
			if a.Code < 400 || a.Code >= 500 || !contains(string(a.Body), tc.want) {
				t.Errorf("%s: %d %s", name, a.Code, a.Body)
			}
		}
	})
	t.Run("force without apply", func(t *testing.T) {
		a := s.Call(t, "PATCH", "/apis/apps/v1/namespaces/"+ns+"/deployments/d?force=true", `{}`, "Content-Type", "application/merge-patch+json")
		if a.Code != 422 || !contains(string(a.Body), "force: Forbidden: may not be specified for non-apply patch") {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("unknown kind of patch", func(t *testing.T) {
		a := s.Call(t, "PATCH", "/apis/apps/v1/namespaces/"+ns+"/deployments/d", `{}`, "Content-Type", "application/json")
		if a.Code != 415 || !contains(string(a.Body), "415: Unsupported Media Type") {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
}

// TestDeletes removes objects in every way.
//
// Covers: api.delete
func TestDeletes(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "deletes")
	cms := s.Client.CoreV1().ConfigMaps(ns)
	make := func(t *testing.T, name string, finalizers ...string) *corev1.ConfigMap {
		t.Helper()
		cm := configMap(name, map[string]string{"set": name[:1]})
		cm.Finalizers = finalizers
		got, err := cms.Create(ctx, cm, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	t.Run("finalizers", func(t *testing.T) {
		make(t, "f", "example.com/f")
		if err := cms.Delete(ctx, "f", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := cms.Get(ctx, "f", metav1.GetOptions{})
		if err != nil || got.DeletionTimestamp == nil || got.DeletionGracePeriodSeconds == nil {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := cms.Create(ctx, configMap("f", nil), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) || !contains(err.Error(), "object is being deleted") {
			t.Errorf("create meanwhile: %v", err)
		}
		again := got.DeepCopy()
		again.Finalizers = append(again.Finalizers, "example.com/more")
		if _, err := cms.Update(ctx, again, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !contains(err.Error(), "no new finalizers can be added if the object is being deleted") {
			t.Errorf("another finalizer: %v", err)
		}
		got.Finalizers = nil
		if _, err := cms.Update(ctx, got, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := cms.Get(ctx, "f", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("after the last finalizer: %v", err)
		}
	})
	t.Run("propagation", func(t *testing.T) {
		for policy, want := range map[metav1.DeletionPropagation]string{metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents, metav1.DeletePropagationOrphan: metav1.FinalizerOrphanDependents} {
			make(t, "p")
			if err := cms.Delete(ctx, "p", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
				t.Fatal(err)
			}
			got, err := cms.Get(ctx, "p", metav1.GetOptions{})
			if err != nil || !slices.Equal(got.Finalizers, []string{want}) {
				t.Fatalf("%s: %+v, %v", policy, got, err)
			}
			if _, err := cms.Patch(ctx, "p", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		bad := metav1.DeletionPropagation("x")
		make(t, "p")
		if err := cms.Delete(ctx, "p", metav1.DeleteOptions{PropagationPolicy: &bad}); !apierrors.IsInvalid(err) {
			t.Errorf("an unknown policy: %v", err)
		}
	})
	t.Run("preconditions", func(t *testing.T) {
		cm := make(t, "q")
		old := "1"
		err := cms.Delete(ctx, "q", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &old}})
		if !apierrors.IsConflict(err) || !contains(err.Error(), "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record") {
			t.Errorf("got %v", err)
		}
		if err := cms.Delete(ctx, "q", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(cm.UID))}); err != nil {
			t.Error(err)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		make(t, "r")
		if err := cms.Delete(ctx, "r", metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := cms.Get(ctx, "r", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
		a := s.Call(t, "DELETE", "/api/v1/namespaces/"+ns+"/configmaps/r?dryRun=x", "")
		if a.Code != 422 || !contains(string(a.Body), `dryRun: Unsupported value: [\"x\"]: supported values: \"All\"`) {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("answers", func(t *testing.T) {
		cm := make(t, "s")
		a := s.Call(t, "DELETE", "/api/v1/namespaces/"+ns+"/configmaps/s", "")
		var st metav1.Status
		if err := json.Unmarshal(a.Body, &st); err != nil || a.Code != 200 || st.Status != "Success" || st.Details == nil || st.Details.Name != "s" || st.Details.Kind != "configmaps" || st.Details.UID != cm.UID {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		a = s.Call(t, "DELETE", "/api/v1/namespaces/"+ns+"/configmaps/s", "")
		if a.Code != 404 || !contains(string(a.Body), `configmaps \"s\" not found`) {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("collection", func(t *testing.T) {
		for _, n := range []string{"x1", "x2", "x3", "y1"} {
			make(t, n)
		}
		if err := cms.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "set=x"}); err != nil {
			t.Fatal(err)
		}
		l, err := cms.List(ctx, metav1.ListOptions{LabelSelector: "set in (x,y)"})
		if err != nil || len(l.Items) != 1 || l.Items[0].Name != "y1" {
			t.Errorf("%v left, %v", l.Items, err)
		}
	})
	t.Run("pods with grace", func(t *testing.T) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{ServiceAccountName: "sa", NodeName: "node1", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		if _, err := s.Client.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		pods := s.Client.CoreV1().Pods(ns)
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := pods.Get(ctx, "p", metav1.GetOptions{})
		if err != nil || *got.DeletionGracePeriodSeconds != 30 || got.DeletionTimestamp == nil {
			t.Fatalf("%+v, %v", got, err)
		}
		if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(5))}); err != nil {
			t.Fatal(err)
		}
		if got, err = pods.Get(ctx, "p", metav1.GetOptions{}); err != nil || *got.DeletionGracePeriodSeconds != 5 {
			t.Fatalf("shorter: %+v, %v", got, err)
		}
		if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(0))}); err != nil {
			t.Fatal(err)
		}
		if _, err = pods.Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("at once: %v", err)
		}
		pod.Name, pod.Spec.NodeName = "q", ""
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(ctx, "q", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err = pods.Get(ctx, "q", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("a pod without a node: %v", err)
		}
	})
	t.Run("a namespace", func(t *testing.T) {
		if err := s.Client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		if err != nil || got.Status.Phase != corev1.NamespaceTerminating || got.DeletionTimestamp == nil {
			t.Fatalf("%+v, %v", got, err)
		}
		_, err = cms.Create(ctx, configMap("late", nil), metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) || !contains(err.Error(), "because it is being terminated") || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			t.Errorf("create in it: %v", err)
		}
		got.Spec.Finalizers = nil
		if _, err := s.Client.CoreV1().Namespaces().Finalize(ctx, got, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("after finalize: %v", err)
		}
		if err := s.Client.CoreV1().Namespaces().Delete(ctx, "kube-system", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) || !contains(err.Error(), "this namespace may not be deleted") {
			t.Errorf("kube-system: %v", err)
		}
	})
}

// TestWriting is about what goes in: names, dry runs, fields, formats.
//
// Covers: api.update
func TestWriting(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "writing")
	base := "/api/v1/namespaces/" + ns + "/configmaps"
	t.Run("generateName", func(t *testing.T) {
		seen := map[string]bool{}
		for range 20 {
			cm, err := s.Client.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}, metav1.CreateOptions{})
			if err != nil || len(cm.Name) != 7 || seen[cm.Name] {
				t.Fatalf("%+v, %v", cm, err)
			}
			seen[cm.Name] = true
		}
	})
	post := func(t *testing.T, query, body, media string) apiservertest.Answer {
		t.Helper()
		return s.Call(t, "POST", base+query, body, "Content-Type", media, "Accept", "application/json")
	}
	for name, tc := range map[string]struct {
		query, body, media string
		code               int
		want, warning      string
	}{
		"yaml":               {body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\n", media: "application/yaml", code: 201},
		"no type":            {body: `{"metadata":{"name":"nt"}}`, media: "application/json", code: 201},
		"other kind":         {body: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"nt"}}`, media: "application/json", code: 400, want: "cannot be handled as a ConfigMap"},
		"other version":      {body: `{"apiVersion":"apps/v1","kind":"ConfigMap","metadata":{"name":"nt"}}`, media: "application/json", code: 400},
		"not json":           {body: `{`, media: "application/json", code: 400},
		"wrong type":         {body: `{"metadata":{"name":"wt"},"data":5}`, media: "application/json", code: 400, want: "cannot be handled as a ConfigMap"},
		"other media type":   {body: `x`, media: "text/plain", code: 415, want: "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		"other namespace":    {body: `{"metadata":{"name":"on","namespace":"default"}}`, media: "application/json", code: 400, want: "the namespace of the provided object does not match the namespace sent on the request"},
		"bad name":           {body: `{"metadata":{"name":"A_b"}}`, media: "application/json", code: 422, want: `ConfigMap \"A_b\" is invalid: metadata.name: Invalid value`},
		"no name":            {body: `{}`, media: "application/json", code: 422, want: `metadata.name: Required value: name or generateName is required`},
		"a version":          {body: `{"metadata":{"name":"rv","resourceVersion":"5"}}`, media: "application/json", code: 500, want: "resourceVersion should not be set on objects to be created"},
		"strict unknown":     {query: "?fieldValidation=Strict", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"su"},"dat":{}}`, media: "application/json", code: 400, want: `strict decoding error: unknown field \"dat\"`},
		"strict twice":       {query: "?fieldValidation=Strict", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"su"},"data":{"a":"1"},"data":{"a":"2"}}`, media: "application/json", code: 400, want: `strict decoding error: duplicate field \"data\"`},
		"warn unknown":       {query: "?fieldValidation=Warn", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"wu"},"dat":{}}`, media: "application/json", code: 201, warning: `299 - "unknown field \"dat\""`},
		"default warns":      {body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"dw","x":1}}`, media: "application/json", code: 201, warning: `299 - "unknown field \"metadata.x\""`},
		"ignore unknown":     {query: "?fieldValidation=Ignore", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"iu"},"dat":{}}`, media: "application/json", code: 201},
		"bad validation":     {query: "?fieldValidation=x", body: `{"metadata":{"name":"bv"}}`, media: "application/json", code: 422, want: `fieldValidation: Unsupported value: \"x\"`},
		"strict yaml twice":  {query: "?fieldValidation=Strict", body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: sy}\ndata: {a: b}\ndata: {a: c}\n", media: "application/yaml", code: 400, want: `key \"data\" already set in map`},
		"dry run":            {query: "?dryRun=All", body: `{"metadata":{"name":"dr"}}`, media: "application/json", code: 201},
		"dry run kept none":  {query: "?dryRun=All", body: `{"metadata":{"name":"dr"}}`, media: "application/json", code: 201},
		"long field manager": {query: "?fieldManager=" + strings.Repeat("x", 129), body: `{"metadata":{"name":"fm"}}`, media: "application/json", code: 422, want: "fieldManager: Too long"},
		"too much":           {body: `{"metadata":{"name":"big"},"data":{"a":"` + strings.Repeat("x", 4<<20) + `"}}`, media: "application/json", code: 413, want: "Request entity too large: limit is 3145728"},
	} {
		t.Run(name, func(t *testing.T) {
			a := post(t, tc.query, tc.body, tc.media)
			if a.Code != tc.code || !contains(string(a.Body), tc.want) {
				t.Errorf("%d %.400s", a.Code, a.Body)
			}
			if w := a.Header.Get("Warning"); w != tc.warning {
				t.Errorf("warning %s", w)
			}
		})
	}
	t.Run("protobuf", func(t *testing.T) {
		cfg := rest.CopyConfig(s.Admin)
		cfg.ContentType, cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"
		c := kubernetes.NewForConfigOrDie(cfg).AppsV1().Deployments(ns)
		made, err := c.Create(ctx, deployment("pb"), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		made.Spec.Replicas = ptr(int32(4))
		if made, err = c.Update(ctx, made, metav1.UpdateOptions{}); err != nil || made.Generation != 2 {
			t.Errorf("%+v, %v", made.ObjectMeta, err)
		}
		l, err := c.List(ctx, metav1.ListOptions{})
		if err != nil || len(l.Items) != 1 {
			t.Errorf("%v", err)
		}
		if _, err := c.Get(ctx, "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%v", err)
		}
	})
	t.Run("not acceptable", func(t *testing.T) {
		a := s.Call(t, "GET", base, "", "Accept", "text/html")
		if a.Code != 406 || !contains(string(a.Body), `406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf`) {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("many writers", func(t *testing.T) {
		cms := s.Client.CoreV1().ConfigMaps(ns)
		if _, err := cms.Create(ctx, configMap("n", nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error)
		for i := range 10 {
			go func() {
				errs <- retry.RetryOnConflict(retry.DefaultBackoff, func() error {
					_, err := cms.Patch(ctx, "n", types.MergePatchType, fmt.Appendf(nil, `{"data":{"w%d":"1"}}`, i), metav1.PatchOptions{})
					return err
				})
			}()
		}
		for range 10 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		got, err := cms.Get(ctx, "n", metav1.GetOptions{})
		if err != nil || len(got.Data) != 11 {
			t.Errorf("%v, %v", got.Data, err)
		}
	})
	t.Run("table", func(t *testing.T) {
		a := s.Call(t, "GET", "/apis/apps/v1/namespaces/"+ns+"/deployments", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
		var table metav1.Table
		if err := json.Unmarshal(a.Body, &table); err != nil || table.Kind != "Table" || len(table.Rows) != 1 {
			t.Fatalf("%v %s", err, a.Body)
		}
		var columns []string
		for _, c := range table.ColumnDefinitions {
			columns = append(columns, c.Name)
		}
		if want := []string{"Name", "Ready", "Up-to-date", "Available", "Age", "Containers", "Images", "Selector"}; !slices.Equal(columns, want) {
			t.Errorf("columns %v", columns)
		}
		if !contains(string(table.Rows[0].Object.Raw), "PartialObjectMetadata") || fmt.Sprint(table.Rows[0].Cells[:2]) != "[pb 0/4]" {
			t.Errorf("row %s %v", table.Rows[0].Object.Raw, table.Rows[0].Cells)
		}
	})
}
