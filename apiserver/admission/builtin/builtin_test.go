package builtin_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
)

// allow answers yes to every question.
var allow = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
})

// chain is the default chain over objects that exist.
func chain(t *testing.T, enable []string, objs ...runtime.Object) (admission.Chain, *fake.Clientset) {
	t.Helper()
	return configured(t, builtin.Deps{Authorizer: allow}, enable, objs...)
}

// configured is chain with an authorizer and with configurations of plugins.
func configured(t *testing.T, deps builtin.Deps, enable []string, objs ...runtime.Object) (admission.Chain, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(append([]runtime.Object{namespace("ns", nil), &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "ns"}}}, objs...)...)
	inf := informers.NewSharedInformerFactory(client, 0)
	deps.Client, deps.Informers = client, inf
	c, err := builtin.New(deps, enable, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(func() { cancel(); inf.Shutdown() })
	inf.StartWithContext(ctx)
	inf.WaitForCacheSync(ctx.Done())
	return c, client
}

func namespace(name string, labels map[string]string) *v1.Namespace {
	return &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func newPod(change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Image: "i"}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func create(p *v1.Pod) *admission.Attributes {
	return &admission.Attributes{Operation: admission.Create, Kind: v1.SchemeGroupVersion.WithKind("Pod"), Resource: v1.SchemeGroupVersion.WithResource("pods"),
		Namespace: p.Namespace, Name: p.Name, Object: p, User: &user.DefaultInfo{Name: "u"}, Options: &metav1.CreateOptions{},
		TypeConverter: func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) }}
}

func run(t *testing.T, c admission.Chain, a *admission.Attributes) error {
	t.Helper()
	if err := c.Admit(t.Context(), a); err != nil {
		return err
	}
	return c.Validate(t.Context(), a)
}

func TestPodIsCompleted(t *testing.T) {
	c, _ := chain(t, nil, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7})
	a := create(newPod(func(p *v1.Pod) { p.Spec.PriorityClassName = "high" }))
	if err := run(t, c, a); err != nil {
		t.Fatal(err)
	}
	p := a.Object.(*v1.Pod)
	if p.Spec.ServiceAccountName != "default" || len(p.Spec.Volumes) != 1 || !strings.HasPrefix(p.Spec.Volumes[0].Name, "kube-api-access-") || len(p.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("service account %q, volumes %+v, mounts %+v", p.Spec.ServiceAccountName, p.Spec.Volumes, p.Spec.Containers[0].VolumeMounts)
	}
	if ptr.Deref(p.Spec.Priority, 0) != 7 {
		t.Errorf("priority %v, want 7", p.Spec.Priority)
	}
	if len(p.Spec.Tolerations) != 2 {
		t.Errorf("tolerations %+v, want those for not-ready and unreachable", p.Spec.Tolerations)
	}
}

// Covers: api.admission-default, api.pod-security
func TestRefusals(t *testing.T) {
	hard := v1.ResourceList{v1.ResourcePods: resource.MustParse("1")}
	for _, tt := range []struct {
		name string
		objs []runtime.Object
		pod  *v1.Pod
		want string
	}{
		{"namespace is missing", nil, newPod(func(p *v1.Pod) { p.Namespace = "no" }), `namespaces "no" not found`},
		{"namespace is going", []runtime.Object{&v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going"}, Status: v1.NamespaceStatus{Phase: v1.NamespaceTerminating}}},
			newPod(func(p *v1.Pod) { p.Namespace = "going" }), `pods "p" is forbidden: unable to create new content in namespace going because it is being terminated`},
		{"service account is missing", nil, newPod(func(p *v1.Pod) { p.Spec.ServiceAccountName = "no" }),
			`pods "p" is forbidden: error looking up service account ns/no: serviceaccount "no" not found`},
		{"priority class is missing", nil, newPod(func(p *v1.Pod) { p.Spec.PriorityClassName = "no" }), `pods "p" is forbidden: no PriorityClass with name no was found`},
		{"quota is used up", []runtime.Object{&v1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}, Spec: v1.ResourceQuotaSpec{Hard: hard},
			Status: v1.ResourceQuotaStatus{Hard: hard, Used: v1.ResourceList{v1.ResourcePods: resource.MustParse("1")}}}}, newPod(),
			`pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1`},
		{"limit range", []runtime.Object{&v1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "ns"}, Spec: v1.LimitRangeSpec{Limits: []v1.LimitRangeItem{
			{Type: v1.LimitTypeContainer, Max: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}}}}}},
			newPod(func(p *v1.Pod) {
				p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}
			}),
			`pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2`},
		{"pod security", []runtime.Object{namespace("strict", map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}), &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "strict"}}},
			newPod(func(p *v1.Pod) { p.Namespace = "strict"; p.Spec.HostNetwork = true }), `pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := chain(t, nil, tt.objs...)
			err := run(t, c, create(tt.pod))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestSystemPriorityClassesStay(t *testing.T) {
	c, _ := chain(t, nil)
	for name, want := range map[string]string{
		"system-node-critical":    `priorityclasses.scheduling.k8s.io "system-node-critical" is forbidden: this is a system priority class and cannot be deleted`,
		"system-cluster-critical": `priorityclasses.scheduling.k8s.io "system-cluster-critical" is forbidden: this is a system priority class and cannot be deleted`,
		"mine":                    "",
	} {
		got := ""
		if err := run(t, c, &admission.Attributes{Operation: admission.Delete, Kind: schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
			Resource: schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), Name: name, User: &user.DefaultInfo{Name: "u"}, Options: &metav1.DeleteOptions{},
			OldObject: &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}}}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("deleting %s says %q, want %q", name, got, want)
		}
	}
}

// Covers: api.quota
func TestQuotaIsBookedAndGivenBack(t *testing.T) {
	hard := v1.ResourceList{v1.ResourcePods: resource.MustParse("2")}
	c, client := chain(t, nil, &v1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}, Spec: v1.ResourceQuotaSpec{Hard: hard},
		Status: v1.ResourceQuotaStatus{Hard: hard, Used: v1.ResourceList{v1.ResourcePods: resource.MustParse("0")}}})
	used := func() string {
		q, err := client.CoreV1().ResourceQuotas("ns").Get(t.Context(), "q", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n := q.Status.Used[v1.ResourcePods]
		return n.String()
	}
	a := create(newPod())
	if err := run(t, c, a); err != nil {
		t.Fatal(err)
	}
	if got := used(); got != "1" {
		t.Errorf("booked %s pods, want 1", got)
	}
	for _, f := range a.Undo {
		f(t.Context())
	}
	if got := used(); got != "0" {
		t.Errorf("after the write failed %s pods are booked, want 0", got)
	}
}

// Covers: api.webhooks
func TestWebhookPatchesAndRefuses(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rev admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&rev); err != nil {
			t.Error(err)
		}
		resp := &admissionv1.AdmissionResponse{UID: rev.Request.UID, Allowed: true}
		if r.URL.Path == "/mutate" {
			resp.PatchType, resp.Patch = ptr.To(admissionv1.PatchTypeJSONPatch), []byte(`[{"op":"add","path":"/metadata/labels","value":{"seen":"yes"}}]`)
		} else {
			resp.Allowed, resp.Result = false, &metav1.Status{Message: "no"}
		}
		rev.Response = resp
		_ = json.NewEncoder(w).Encode(rev)
	}))
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	rules := []arv1.RuleWithOperations{{Operations: []arv1.OperationType{arv1.Create}, Rule: arv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}
	c, _ := chain(t, nil,
		&arv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Webhooks: []arv1.MutatingWebhook{{Name: "m.example.com", Rules: rules, SideEffects: ptr.To(arv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"}, ClientConfig: arv1.WebhookClientConfig{URL: ptr.To(srv.URL + "/mutate"), CABundle: ca}}}},
		&arv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []arv1.ValidatingWebhook{{Name: "v.example.com", Rules: rules, SideEffects: ptr.To(arv1.SideEffectClassNone),
			MatchConditions:         []arv1.MatchCondition{{Name: "bad", Expression: `object.metadata.name == "bad" && request.operation == "CREATE"`}},
			AdmissionReviewVersions: []string{"v1"}, ClientConfig: arv1.WebhookClientConfig{URL: ptr.To(srv.URL + "/validate"), CABundle: ca}}}})
	a := create(newPod())
	if err := run(t, c, a); err != nil {
		t.Fatal(err)
	}
	if got := a.Object.(*v1.Pod).Labels["seen"]; got != "yes" {
		t.Errorf("label seen is %q, want yes", got)
	}
	err := run(t, c, create(newPod(func(p *v1.Pod) { p.Name = "bad" })))
	if want := `admission webhook "v.example.com" denied the request: no`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Covers: api.policies
func TestValidatingPolicyRefuses(t *testing.T) {
	c, _ := chain(t, nil,
		&arv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "pol"}, Spec: arv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &arv1.MatchResources{ResourceRules: []arv1.NamedRuleWithOperations{{RuleWithOperations: arv1.RuleWithOperations{Operations: []arv1.OperationType{arv1.Create},
				Rule: arv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}}},
			Variables:   []arv1.Variable{{Name: "n", Expression: "size(object.spec.containers)"}},
			Validations: []arv1.Validation{{Expression: "variables.n <= 1", MessageExpression: "'at most 1 container, not ' + string(variables.n)"}}}},
		&arv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "bind"}, Spec: arv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "pol", ValidationActions: []arv1.ValidationAction{arv1.Deny}}})
	if err := run(t, c, create(newPod())); err != nil {
		t.Fatal(err)
	}
	err := run(t, c, create(newPod(func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d", Image: "i"}) })))
	if want := `pods "p" is forbidden: ValidatingAdmissionPolicy 'pol' with binding 'bind' denied request: at most 1 container, not 2`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Covers: api.policies
func TestMutatingPolicyChanges(t *testing.T) {
	expression := func(kind arv1.PatchType, text string) arv1.Mutation {
		if kind == arv1.PatchTypeJSONPatch {
			return arv1.Mutation{PatchType: kind, JSONPatch: &arv1.JSONPatch{Expression: text}}
		}
		return arv1.Mutation{PatchType: kind, ApplyConfiguration: &arv1.ApplyConfiguration{Expression: text}}
	}
	cases := map[string]struct {
		condition string
		mutations []arv1.Mutation
		ignore    bool
		want      string // the labels and the number of init containers
		refused   string
	}{
		"apply configuration": {mutations: []arv1.Mutation{expression(arv1.PatchTypeApplyConfiguration,
			"Object{metadata: Object.metadata{labels: {'by': variables.name}}, spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'm'}]}}")},
			want: "map[by:of-p] 1"},
		"JSON patch": {mutations: []arv1.Mutation{expression(arv1.PatchTypeJSONPatch,
			"[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}, JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: 'z'}]")},
			want: "map[a:b x/y:z] 0"},
		"the second sees the first": {mutations: []arv1.Mutation{
			expression(arv1.PatchTypeApplyConfiguration, "Object{metadata: Object.metadata{labels: {'a': '1'}}}"),
			expression(arv1.PatchTypeApplyConfiguration, "Object{metadata: Object.metadata{labels: {'b': object.metadata.labels['a'] + '2'}}}")},
			want: "map[a:1 b:12] 0"},
		"a failed test leaves the object": {mutations: []arv1.Mutation{expression(arv1.PatchTypeJSONPatch,
			"[JSONPatch{op: 'test', path: '/metadata/name', value: 'other'}, JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}]")},
			want: "map[] 0"},
		"condition does not hold": {condition: "object.metadata.name == 'q'", mutations: []arv1.Mutation{
			expression(arv1.PatchTypeApplyConfiguration, "Object{metadata: Object.metadata{labels: {'a': '1'}}}")}, want: "map[] 0"},
		"error": {mutations: []arv1.Mutation{expression(arv1.PatchTypeApplyConfiguration, "Object{metadata: Object.metadata{labels: {'a': variables.none}}}")},
			refused: "resulted in error: no such key: none"},
		"ignored error undoes what came before": {ignore: true, mutations: []arv1.Mutation{
			expression(arv1.PatchTypeApplyConfiguration, "Object{metadata: Object.metadata{labels: {'a': '1'}}}"),
			expression(arv1.PatchTypeApplyConfiguration, "Object{metadata: Object.metadata{labels: {'a': variables.none}}}")}, want: "map[] 0"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			pol := &arv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "pol"}, Spec: arv1.MutatingAdmissionPolicySpec{
				MatchConstraints: &arv1.MatchResources{ResourceRules: []arv1.NamedRuleWithOperations{{RuleWithOperations: arv1.RuleWithOperations{Operations: []arv1.OperationType{arv1.Create},
					Rule: arv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}}},
				Variables: []arv1.Variable{{Name: "name", Expression: "'of-' + object.metadata.name"}}, Mutations: tc.mutations}}
			if tc.condition != "" {
				pol.Spec.MatchConditions = []arv1.MatchCondition{{Name: "c", Expression: tc.condition}}
			}
			if tc.ignore {
				pol.Spec.FailurePolicy = ptr.To(arv1.Ignore)
			}
			c, _ := chain(t, nil, pol, &arv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "bind"}, Spec: arv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "pol"}})
			a := create(newPod())
			err := run(t, c, a)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("error %v, want one with %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p := a.Object.(*v1.Pod)
			if got := fmt.Sprint(p.Labels, " ", len(p.Spec.InitContainers)); got != tc.want {
				t.Errorf("made %s, want %s", got, tc.want)
			}
		})
	}
}

// Covers: api.node-authorizer
func TestNodeMayNotTouchOtherNodes(t *testing.T) {
	c, _ := chain(t, nil)
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}}
	a := &admission.Attributes{Operation: admission.Create, Kind: v1.SchemeGroupVersion.WithKind("Node"), Resource: v1.SchemeGroupVersion.WithResource("nodes"), Name: "other", Object: n,
		User: &user.DefaultInfo{Name: "system:node:mine", Groups: []string{user.NodesGroup}}}
	err := run(t, c, a)
	if want := `nodes "other" is forbidden: node "mine" is not allowed to modify node "other"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestUnknownPluginIsRefused(t *testing.T) {
	client := fake.NewClientset()
	_, err := builtin.New(builtin.Deps{Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Authorizer: allow}, []string{"Nope"}, nil)
	if err == nil || !strings.Contains(err.Error(), `enable-admission-plugins plugin "Nope" is unknown`) {
		t.Errorf("got %v", err)
	}
}
