package builtin_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/builtin"
)

var writeFree = flag.Bool("write-free-fields", false, "write testdata/freefields.txt anew; review what changed")

const freeFile = "testdata/freefields.txt"

// TestEveryFieldHasARule walks every field of every stored kind. With all else
// equal, some value of the field must change what the validation says when the
// object is created, and some change of it what it says on update; a field that
// the strategy drops or keeps is the server's own and passes. Fields that take
// anything stand in testdata/freefields.txt, which must be exact: a field that
// gains a rule leaves the list.
//
// Covers: api.validation
func TestEveryFieldHasARule(t *testing.T) {
	var got []string
	podFree := map[string]bool{}
	for _, r := range builtin.Resources() {
		// Definitions are checked by the library that has their schemas.
		if r.Virtual != resources.ConnectNone || !r.SharesStoreWith.Empty() || r.Kind == "CustomResourceDefinition" {
			continue
		}
		k := newKind(t, &r)
		for _, leaf := range leavesOf(reflect.TypeOf(k.base).Elem(), nil, nil) {
			// A pod template's fields are those of a pod; its first level shows
			// that the kind checks its template at all.
			if _, in, ok := strings.Cut(leaf.String(), "template.spec."); ok && strings.Contains(in, ".") {
				continue
			}
			create, update := k.rules(leaf)
			if create && update {
				continue
			}
			var free []string
			if !create {
				free = append(free, "create")
			}
			if !update {
				free = append(free, "update")
			}
			path, marks := leaf.String(), strings.Join(free, ",")
			name := r.Kind + "." + path
			if r.Group != "" {
				name = r.Group + "/" + name
			}
			if _, in, ok := strings.Cut(path, "template.spec."); ok && podFree[strings.TrimPrefix(in, "template.spec.")] {
				continue
			}
			if r.Kind == "Pod" {
				podFree[strings.TrimPrefix(path, "spec.")] = true
			}
			got = append(got, fmt.Sprintf("%-14s %s %s", marks, name, leaf.kind))
		}
	}
	sort.SliceStable(got, func(i, j int) bool { return strings.Fields(got[i])[1] < strings.Fields(got[j])[1] })
	if *writeFree {
		writeFreeFields(t, got)
		return
	}
	if diff := cmp.Diff(readFreeFields(t), got); diff != "" {
		t.Errorf("fields without a rule (+), and listed fields that have one (-): write the rule, or review and list them in %s (-write-free-fields):\n%s", freeFile, diff)
	}
}

func readFreeFields(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(freeFile)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

func writeFreeFields(t *testing.T, list []string) {
	t.Helper()
	raw, _ := os.ReadFile(freeFile)
	var b strings.Builder
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	for _, line := range list {
		b.WriteString(line + "\n")
	}
	if err := os.WriteFile(freeFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// kindUnderTest runs a kind's strategies as the generic path does.
type kindUnderTest struct {
	r    *resources.Resource
	def  func(runtime.Object)
	base runtime.Object
}

func newKind(t *testing.T, r *resources.Resource) *kindUnderTest {
	t.Helper()
	for _, v := range r.Versions {
		if v.Name != r.Hub {
			continue
		}
		k := &kindUnderTest{r: r, def: v.Default, base: v.New()}
		if make := examples()[r.Kind]; make != nil {
			k.base = make
		}
		if k.def == nil {
			k.def = func(runtime.Object) {}
		}
		m := k.base.(metav1.Object)
		if m.GetName() == "" {
			m.SetName("x")
		}
		m.SetResourceVersion("1")
		m.SetUID("u")
		if r.Namespaced {
			m.SetNamespace("ns")
		}
		return k
	}
	t.Fatalf("%s has no hub", r.GroupResource())
	return nil
}

// rules tells whether the leaf's value matters on create and on update.
func (k *kindUnderTest) rules(l leaf) (create, update bool) {
	create, update = k.rulesBeside(l, false)
	if !create || !update {
		c, u := k.rulesBeside(l, true)
		create, update = create || c, update || u
	}
	return create, update
}

func (k *kindUnderTest) rulesBeside(l leaf, filled bool) (create, update bool) {
	values := probes(l.typ)
	objs := make([]runtime.Object, len(values))
	for i, v := range values {
		objs[i] = k.with(l, v, filled)
	}
	isStatus := l.steps[0].json == "status"
	main := &k.r.Strategy
	create = isStatus || k.differ(values, func(i int) (string, runtime.Object) {
		o := objs[i].DeepCopyObject()
		if main.PrepareForCreate != nil {
			main.PrepareForCreate(context.Background(), o)
		}
		if main.Validate == nil {
			return "", o
		}
		return said(main.Validate(context.Background(), o)), o
	}, l)
	endpoint := main
	if isStatus {
		if s, ok := k.r.Subresources["status"]; ok && s.Strategy != nil {
			endpoint = s.Strategy
		}
	}
	change := func(from, to int) (string, runtime.Object) {
		old, o := objs[from].DeepCopyObject(), objs[to].DeepCopyObject()
		if endpoint.PrepareForUpdate != nil {
			endpoint.PrepareForUpdate(context.Background(), o, old)
		}
		if endpoint.ValidateUpdate == nil {
			return "", o
		}
		return said(endpoint.ValidateUpdate(context.Background(), o, old)), o
	}
	update = k.differ(values, func(i int) (string, runtime.Object) { return change(0, i) }, l)
	for i := 0; i < len(values) && !update; i++ {
		back, _ := change(i, 0)
		same, _ := change(i, i)
		update = back != same
	}
	return create, update
}

// differ tells whether the probes get different answers, or were all replaced.
func (k *kindUnderTest) differ(values []reflect.Value, try func(i int) (string, runtime.Object), l leaf) bool {
	first, _ := try(0)
	if strings.Contains(first, "\n"+plain(l.String())+": ") {
		return true
	}
	kept := false
	for i := 1; i < len(values); i++ {
		text, o := try(i)
		if text != first {
			return true
		}
		v, _ := l.reach(o, false)
		kept = kept || equality.Semantic.DeepEqual(v.Interface(), values[i].Interface())
	}
	return len(values) > 1 && !kept
}

func (k *kindUnderTest) with(l leaf, v reflect.Value, filled bool) runtime.Object {
	o := k.base.DeepCopyObject()
	at, done := l.reach(o, filled)
	at.Set(v)
	done()
	k.def(o)
	return o
}

// said is the errors as text, with the positions of lists and maps left out.
func said(errs field.ErrorList) string {
	lines := make([]string, len(errs))
	for i, e := range errs {
		lines[i] = fmt.Sprintf("\n%s: %s %s", plain(e.Field), e.Type, e.Detail)
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

// plain drops what stands in brackets.
func plain(path string) string {
	var b strings.Builder
	depth := 0
	for _, c := range path {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth == 0:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// examples are objects of kinds whose validation ends early on an empty one.
func examples() map[string]runtime.Object {
	yes := true
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	return map[string]runtime.Object{
		"Pod": &corev1.Pod{Spec: pod},
		"NetworkPolicy": &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}}}}},
			Egress:  []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}}}}},
		}},
		"RoleBinding":        &rbacv1.RoleBinding{Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "a"}}},
		"ClusterRoleBinding": &rbacv1.ClusterRoleBinding{Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "a"}}},
		"PriorityLevelConfiguration": &flowcontrolv1.PriorityLevelConfiguration{Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue}}}},
		"Event":         &corev1.Event{EventTime: metav1.NewMicroTime(time.Unix(1, 0))},
		"EndpointSlice": &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4},
		"MutatingAdmissionPolicy": &admissionv1.MutatingAdmissionPolicy{Spec: admissionv1.MutatingAdmissionPolicySpec{Mutations: []admissionv1.Mutation{
			{PatchType: admissionv1.PatchTypeJSONPatch}}}},
		"Service":       &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}},
		"ResourceSlice": &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{PerDeviceNodeSelection: &yes}},
	}
}
