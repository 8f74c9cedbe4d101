package builtin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/api/imagepolicy/v1alpha1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
)

// annotated is a namespace with an account for pods.
func annotated(name string, annotations map[string]string) []runtime.Object {
	ns := namespace(name, nil)
	ns.Annotations = annotations
	return []runtime.Object{ns, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: name}}}
}

func update(obj, old runtime.Object, resource string) *admission.Attributes {
	a := create(newPod())
	a.Operation, a.Object, a.OldObject, a.Options = admission.Update, obj, old, &metav1.UpdateOptions{}
	a.Resource.Resource = resource
	return a
}

// Covers: api.admission-optional
func TestAlwaysPullImages(t *testing.T) {
	c, _ := chain(t, []string{"AlwaysPullImages"})
	a := create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].ImagePullPolicy = v1.PullNever
		p.Spec.InitContainers = []v1.Container{{Name: "i", Image: "i"}}
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "v", PullPolicy: v1.PullNever}}}}
	}))
	if err := run(t, c, a); err != nil {
		t.Fatal(err)
	}
	pod := a.Object.(*v1.Pod)
	if pod.Spec.Containers[0].ImagePullPolicy != v1.PullAlways || pod.Spec.InitContainers[0].ImagePullPolicy != v1.PullAlways {
		t.Errorf("policies %q and %q", pod.Spec.Containers[0].ImagePullPolicy, pod.Spec.InitContainers[0].ImagePullPolicy)
	}
	if got := pod.Spec.Volumes[0].Image.PullPolicy; got != v1.PullAlways {
		t.Errorf("policy of the volume's image %q", got)
	}
}

// Covers: api.admission-optional
func TestPodNodeSelector(t *testing.T) {
	const annotation = "scheduler.alpha.kubernetes.io/node-selector"
	config := map[string][]byte{"PodNodeSelector": []byte("podNodeSelectorPluginConfig:\n  clusterDefaultNodeSelector: pool=shared\n  held: pool=shared,disk=ssd\n")}
	var objs []runtime.Object
	objs = append(objs, annotated("own", map[string]string{annotation: "pool=own"})...)
	objs = append(objs, annotated("open", map[string]string{annotation: ""})...)
	objs = append(objs, annotated("held", nil)...)
	c, _ := configured(t, builtin.Deps{Authorizer: allow, Configs: config}, []string{"PodNodeSelector"}, objs...)
	for _, tc := range []struct {
		name, namespace string
		selector, want  map[string]string
		err             string
	}{
		{"the cluster's", "ns", nil, map[string]string{"pool": "shared"}, ""},
		{"the namespace's", "own", map[string]string{"disk": "ssd"}, map[string]string{"pool": "own", "disk": "ssd"}, ""},
		{"none", "open", nil, nil, ""},
		{"another pool", "own", map[string]string{"pool": "b"}, nil, `pods "p" is forbidden: pod node label selector conflicts with its namespace node label selector`},
		{"what is allowed", "held", map[string]string{"disk": "ssd"}, map[string]string{"pool": "shared", "disk": "ssd"}, ""},
		{"what is not", "held", map[string]string{"disk": "hdd"}, nil, `pods "p" is forbidden: pod node label selector labels conflict with its namespace whitelist`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := create(newPod(func(p *v1.Pod) { p.Namespace, p.Spec.NodeSelector = tc.namespace, tc.selector }))
			err := run(t, c, a)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("got  %v\nwant %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, a.Object.(*v1.Pod).Spec.NodeSelector); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Covers: api.admission-optional
func TestPodTolerationRestriction(t *testing.T) {
	config := map[string][]byte{"PodTolerationRestriction": []byte(`
apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1
kind: Configuration
default: [{key: shared, operator: Exists}]
whitelist: [{operator: Exists, effect: NoSchedule}, {key: shared, operator: Exists}, {operator: Exists, effect: NoExecute, tolerationSeconds: 300}]
`)}
	own := annotated("own", map[string]string{
		"scheduler.alpha.kubernetes.io/defaultTolerations":   `[{"key":"own","operator":"Equal","value":"yes","effect":"NoSchedule"}]`,
		"scheduler.alpha.kubernetes.io/tolerationsWhitelist": `[{"key":"own","operator":"Exists"},{"key":"node.kubernetes.io/memory-pressure","operator":"Exists"},{"operator":"Exists","effect":"NoExecute"}]`,
	})
	c, _ := configured(t, builtin.Deps{Authorizer: allow, Configs: config}, []string{"PodTolerationRestriction"}, own...)
	for _, tc := range []struct {
		name, namespace string
		tolerations     []v1.Toleration
		asks            bool
		want            []string
		err             bool
	}{
		{"the cluster's", "ns", nil, false, []string{"shared"}, false},
		{"the namespace's", "own", nil, false, []string{"own"}, false},
		{"a wider one stays alone", "own", []v1.Toleration{{Key: "own", Operator: v1.TolerationOpExists}}, false, []string{"own"}, false},
		{"short of memory", "own", nil, true, []string{"own", "node.kubernetes.io/memory-pressure"}, false},
		{"not the namespace's", "own", []v1.Toleration{{Key: "other", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}, false, nil, true},
		{"longer than allowed", "ns", []v1.Toleration{{Key: "a", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](301)}}, false, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := create(newPod(func(p *v1.Pod) {
				p.Namespace, p.Spec.Tolerations = tc.namespace, tc.tolerations
				if tc.asks {
					p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
				}
			}))
			err := run(t, c, a)
			if tc.err {
				if want := `pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist`; err == nil || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range a.Object.(*v1.Pod).Spec.Tolerations {
				// Those for nodes that do not answer are another plugin's.
				if o.Key != v1.TaintNodeNotReady && o.Key != v1.TaintNodeUnreachable {
					got = append(got, o.Key)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Covers: api.admission-optional
func TestEventRateLimit(t *testing.T) {
	var now atomic.Int64
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	config := map[string][]byte{"EventRateLimit": []byte(`
apiVersion: eventratelimit.admission.k8s.io/v1alpha1
kind: Configuration
limits: [{type: Namespace, qps: 1, burst: 3}, {type: SourceAndObject, qps: 1, burst: 2, cacheSize: 8}]
`)}
	objs := annotated("other", nil)
	c, _ := configured(t, builtin.Deps{Authorizer: allow, Configs: config, Now: clock}, []string{"EventRateLimit"}, objs...)
	event := func(namespace, about string) error {
		a := create(newPod())
		a.Kind, a.Resource = v1.SchemeGroupVersion.WithKind("Event"), v1.SchemeGroupVersion.WithResource("events")
		a.Namespace, a.Name = namespace, "e"
		a.Object = &v1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: namespace}, InvolvedObject: v1.ObjectReference{Kind: "Pod", Name: about}}
		return run(t, c, a)
	}
	for _, step := range []struct {
		namespace, about string
		later            int64
		want             string
	}{
		{"ns", "a", 0, ""},
		{"ns", "a", 0, ""},
		{"ns", "a", 0, "limit reached on type SourceAndObject for key Poda"},
		{"ns", "b", 0, "limit reached on type Namespace for key ns"},
		{"other", "b", 0, ""},
		{"ns", "a", 1, ""},
	} {
		now.Add(step.later)
		err := event(step.namespace, step.about)
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("event about %s in %s: %v, want %q", step.about, step.namespace, err, step.want)
		}
	}
	for text, want := range map[string]string{
		"":                                      "limits: Required value",
		"limits: [{type: X, qps: 1, burst: 1}]": `limits[0].type: Unsupported value: "X"`,
		"limits: [{type: User, qps: 0, burst: 1}]": "limits[0].qps: Invalid value: 0",
	} {
		client := fake.NewClientset()
		_, err := builtin.New(builtin.Deps{Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Authorizer: allow,
			Configs: map[string][]byte{"EventRateLimit": []byte(text)}}, []string{"EventRateLimit"}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("configuration %q: %v, want %s", text, err, want)
		}
	}
}

// imagePolicy is a service that lets images of one registry run, and its plugin's configuration.
func imagePolicy(t *testing.T, defaultAllow bool) (config map[string][]byte, asked *atomic.Int32, stop func()) {
	t.Helper()
	asked = &atomic.Int32{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var review v1alpha1.ImageReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Status.Allowed = true
		for _, c := range review.Spec.Containers {
			if !strings.HasPrefix(c.Image, "good/") {
				review.Status = v1alpha1.ImageReviewStatus{Reason: c.Image + " is not good"}
			}
		}
		if review.Spec.Annotations["ticket.image-policy.k8s.io/break-glass"] != "" {
			review.Status.Allowed = true
		}
		review.Status.AuditAnnotations = map[string]string{"seen": review.Spec.Namespace}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(srv.Close)
	k := clientcmdapi.NewConfig()
	k.Clusters["c"] = &clientcmdapi.Cluster{Server: srv.URL}
	k.Contexts["x"] = &clientcmdapi.Context{Cluster: "c"}
	k.CurrentContext = "x"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*k, file); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("imagePolicy: {kubeConfigFile: %s, allowTTL: 50, denyTTL: -1, retryBackoff: 500, defaultAllow: %t}", file, defaultAllow)
	return map[string][]byte{"ImagePolicyWebhook": []byte(text)}, asked, srv.Close
}

// Covers: api.admission-optional
func TestImagePolicyWebhook(t *testing.T) {
	config, asked, _ := imagePolicy(t, false)
	c, _ := configured(t, builtin.Deps{Authorizer: allow, Configs: config}, []string{"ImagePolicyWebhook"})
	try := func(image string, annotations map[string]string) (map[string]string, error) {
		a := create(newPod(func(p *v1.Pod) { p.Spec.Containers[0].Image, p.Annotations = image, annotations }))
		noted := map[string]string{}
		a.Annotate = func(k, v string) { noted[k] = v }
		return noted, run(t, c, a)
	}
	for range 2 {
		if noted, err := try("good/a", nil); err != nil || noted["imagepolicywebhook.image-policy.k8s.io/seen"] != "ns" {
			t.Errorf("a good image: %v, audited %v", err, noted)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, though a yes holds", n)
	}
	const denied = `pods "p" is forbidden: image policy webhook backend denied one or more images: bad/a is not good`
	for range 2 {
		if _, err := try("bad/a", map[string]string{"x": "y"}); err == nil || err.Error() != denied {
			t.Errorf("got  %v\nwant %s", err, denied)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, though a no is not kept", n)
	}
	if _, err := try("bad/a", map[string]string{"ticket.image-policy.k8s.io/break-glass": "1"}); err != nil {
		t.Errorf("an annotation for the service: %v", err)
	}
	for open, want := range map[bool]bool{true: true, false: false} {
		config, _, stop := imagePolicy(t, open)
		stop()
		c, _ := configured(t, builtin.Deps{Authorizer: allow, Configs: config}, []string{"ImagePolicyWebhook"})
		if err := run(t, c, create(newPod())); (err == nil) != want {
			t.Errorf("no service, defaultAllow %t: %v", open, err)
		}
	}
}

// Covers: api.admission-optional
func TestDenyServiceExternalIPs(t *testing.T) {
	c, _ := chain(t, []string{"DenyServiceExternalIPs"})
	service := func(ips ...string) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: v1.ServiceSpec{ExternalIPs: ips}}
	}
	const denied = `services "p" is forbidden: Use of external IPs is denied by admission control`
	if err := run(t, c, update(service("198.51.100.1", "198.51.100.2"), service("198.51.100.1"), "services")); err == nil || err.Error() != denied {
		t.Errorf("got  %v\nwant %s", err, denied)
	}
	if err := run(t, c, update(service("198.51.100.1"), service("198.51.100.1", "198.51.100.2"), "services")); err != nil {
		t.Errorf("one address less: %v", err)
	}
}

// Covers: api.admission-optional
func TestOwnerReferencesPermissionEnforcement(t *testing.T) {
	may := map[string]bool{}
	authz := authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if may[a.GetVerb()+" "+a.GetResource()+"/"+a.GetSubresource()+" "+a.GetNamespace()+"/"+a.GetName()] {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "no rule", nil
	})
	c, client := configured(t, builtin.Deps{Authorizer: authz}, []string{"OwnerReferencesPermissionEnforcement"})
	client.Resources = []*metav1.APIResourceList{{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{
		{Name: "replicasets", Kind: "ReplicaSet", Namespaced: true}, {Name: "replicasets/status", Kind: "ReplicaSet", Namespaced: true},
	}}}
	owned := func(block bool) *v1.ConfigMap {
		return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "1", BlockOwnerDeletion: &block}}}}
	}
	free := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}}
	made := func(obj runtime.Object) *admission.Attributes {
		a := update(obj, nil, "configmaps")
		a.Operation, a.OldObject = admission.Create, nil
		return a
	}
	unknown := owned(true)
	unknown.OwnerReferences[0].Kind = "Nothing"
	const (
		noDelete = `configmaps "p" is forbidden: cannot set an ownerRef on a resource you can't delete: no rule, <nil>`
		noBlock  = `configmaps "p" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: no rule, <nil>`
	)
	for _, tc := range []struct {
		name string
		may  []string
		at   *admission.Attributes
		want string
	}{
		{"a new object", nil, made(owned(false)), ""},
		{"an owner for one that is there", nil, update(owned(false), free, "configmaps"), noDelete},
		{"who may delete it", []string{"delete configmaps/ ns/p"}, update(owned(false), free, "configmaps"), ""},
		{"a new object that blocks", nil, made(owned(true)), noBlock},
		{"who may change the owner's finalizers", []string{"update replicasets/finalizers ns/r"}, made(owned(true)), ""},
		{"it blocked before", nil, update(owned(true), owned(true), "configmaps"), ""},
		{"an unknown kind of owner", nil, made(unknown), `configmaps "p" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion apps/v1 Kind Nothing: no matches for kind "Nothing" in version "apps/v1"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clear(may)
			for _, m := range tc.may {
				may[m] = true
			}
			err := run(t, c, tc.at)
			if got := fmt.Sprint(err); tc.want == "" && err != nil || tc.want != "" && got != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// Covers: api.admission-optional
func TestExtendedResourceToleration(t *testing.T) {
	c, _ := chain(t, []string{"ExtendedResourceToleration"})
	a := create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{"example.com/gpu": resource.MustParse("1"), v1.ResourceCPU: resource.MustParse("1")}
	}))
	if err := run(t, c, a); err != nil {
		t.Fatal(err)
	}
	var got []v1.Toleration
	for _, o := range a.Object.(*v1.Pod).Spec.Tolerations {
		if o.Key == "example.com/gpu" || o.Key == "cpu" {
			got = append(got, o)
		}
	}
	if diff := cmp.Diff([]v1.Toleration{{Key: "example.com/gpu", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}, got); diff != "" {
		t.Error(diff)
	}
}

// TestConfigurations reads the configurations of plugins from a file, and from
// those that it names.
//
// Covers: api.admission-optional
func TestConfigurations(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("selectors.yaml", "podNodeSelectorPluginConfig: {}\n")
	got, err := builtin.ReadConfigs(write("a.yaml", `
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- {name: PodNodeSelector, path: selectors.yaml}
- {name: EventRateLimit, configuration: {limits: []}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"PodNodeSelector": []byte("podNodeSelectorPluginConfig: {}\n"), "EventRateLimit": []byte(`{"limits":[]}`)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{
		"another kind":  "{apiVersion: v1, kind: Pod}",
		"a name twice":  "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{name: A, configuration: {a: 1}}, {name: A, configuration: {}}]}",
		"a file's name": "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{name: A, path: none}]}",
		"a field":       "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugin: []}",
	} {
		if _, err := builtin.ReadConfigs(write("b.yaml", text)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// Covers: api.admission-optional
func TestNamespacePlugins(t *testing.T) {
	for name, tc := range map[string]struct {
		plugin string
		change func(*admission.Attributes)
		err    string
		made   bool
	}{
		"one is made":         {"NamespaceAutoProvision", func(*admission.Attributes) {}, "", true},
		"none by a dry run":   {"NamespaceAutoProvision", func(a *admission.Attributes) { a.DryRun = true }, `namespaces "new" not found`, false},
		"none by an update":   {"NamespaceAutoProvision", func(a *admission.Attributes) { a.Operation, a.OldObject = admission.Update, a.Object }, "", false},
		"an update needs one": {"NamespaceExists", func(a *admission.Attributes) { a.Operation, a.OldObject = admission.Update, a.Object }, `namespaces "new" not found`, false},
		"so does a deletion":  {"NamespaceExists", func(a *admission.Attributes) { a.Operation, a.OldObject, a.Object = admission.Delete, a.Object, nil }, `namespaces "new" not found`, false},
		"the cluster's need none": {"NamespaceExists", func(a *admission.Attributes) {
			a.Operation, a.OldObject, a.Namespace, a.Resource.Resource = admission.Update, a.Object, "", "nodes"
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			c, client := chain(t, []string{tc.plugin})
			a := create(newPod())
			a.Object = &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "new"}}
			a.Kind, a.Resource, a.Namespace, a.Name = v1.SchemeGroupVersion.WithKind("ConfigMap"), v1.SchemeGroupVersion.WithResource("configmaps"), "new", "c"
			tc.change(a)
			if err := run(t, c, a); (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
				t.Errorf("got  %v\nwant %s", err, tc.err)
			}
			if _, err := client.CoreV1().Namespaces().Get(t.Context(), "new", metav1.GetOptions{}); (err == nil) != tc.made {
				t.Errorf("made %v, want %v", err == nil, tc.made)
			}
		})
	}
}
