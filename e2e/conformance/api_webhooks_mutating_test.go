package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// addAfter adds a key to the data where another is.
func addAfter(key, value, add string) judge {
	return func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var o struct{ Data map[string]string }
		if err := json.Unmarshal(r.Object.Raw, &o); err != nil {
			return deny(err.Error())
		}
		if o.Data[key] != value {
			return nil
		}
		return patch(`[{"op":"add","path":"/data/` + add + `","value":"yes"}]`)
	}
}

var twoStages = map[string]judge{
	"/one": addAfter("mutation-start", "yes", "mutation-stage-1"),
	"/two": addAfter("mutation-stage-1", "yes", "mutation-stage-2"),
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap
func TestAPIWebhookMutate(t *testing.T) {
	s := parallel(t)
	h := s.hooks(twoStages)
	maps := rule("", "configmaps", createOp)
	h.mutate("two", h.mutating("one", "/one", maps), h.mutating("two", "/two", maps))
	got, err := s.configMap("cm", map[string]string{"mutation-start": "yes"})
	s.must(err)
	equal(s, "the data", fmt.Sprint(map[string]string{"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}), fmt.Sprint(got.Data))
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation
func TestAPIWebhookMutatePod(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{"/pods": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return patch(`[{"op":"add","path":"/spec/initContainers","value":[{"image":"webhook-added-image","name":"webhook-added-init-container","resources":{}}]}]`)
	}})
	h.mutate("pods", h.mutating("pods", "/pods", rule("", "pods", createOp)))
	p := s.pod(probePod("pod", "serve"))
	if len(p.Spec.InitContainers) != 1 {
		t.Fatalf("init containers %+v", p.Spec.InitContainers)
	}
	c := p.Spec.InitContainers[0]
	equal(s, "the name", "webhook-added-init-container", c.Name)
	equal(s, "the termination message policy", corev1.TerminationMessageReadFile, c.TerminationMessagePolicy)
	equal(s, "the termination message path", corev1.TerminationMessagePathDefault, c.TerminationMessagePath)
	equal(s, "the pull policy", corev1.PullAlways, c.ImagePullPolicy)
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps
func TestAPIWebhookSkips(t *testing.T) {
	s := parallel(t)
	h := s.hooks(twoStages)
	m := h.mutating("one", "/one", rule("", "configmaps", createOp))
	m.MatchConditions = []registrationv1.MatchCondition{{Name: "skip-me", Expression: "object.metadata.name != 'skip-me'"}}
	h.mutate("skip", m)
	for name, want := range map[string]string{"skip-me": "", "other": "yes"} {
		got, err := s.configMap(name, map[string]string{"mutation-start": "yes"})
		s.must(err)
		equal(s, "what was added to "+name, want, got.Data["mutation-stage-1"])
	}
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work
func TestAPIWebhookListMutating(t *testing.T) {
	s := parallel(t)
	h := s.hooks(twoStages)
	c := s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	for i := range 10 {
		h.mutate(fmt.Sprint("list-", i), h.mutating("one", "/one", rule("", "configmaps", createOp)))
	}
	label := metav1.ListOptions{LabelSelector: "test=" + s.name}
	list, err := c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number listed", 10, len(list.Items))
	got, err := s.configMap("mutated", map[string]string{"mutation-start": "yes"})
	s.must(err)
	equal(s, "what was added", "yes", got.Data["mutation-stage-1"])
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label))
	s.eventually(30*time.Second, "the webhooks are gone", s.added("plain", false))
}

// added makes config maps until one has, or has not, been mutated.
func (s *space) added(name string, want bool) func() error {
	tried := 0
	return func() error {
		tried++
		got, err := s.configMap(fmt.Sprint(name, tried), map[string]string{"mutation-start": "yes"})
		if err == nil && (got.Data["mutation-stage-1"] != "") != want {
			err = fmt.Errorf("the data is %v", got.Data)
		}
		return err
	}
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work
func TestAPIWebhookChangeMutating(t *testing.T) {
	s := parallel(t)
	h := s.hooks(twoStages)
	got := h.mutate("change", h.mutating("one", "/one", rule("", "configmaps", createOp)))
	s.must(s.added("first", true)())
	c := s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	got.Webhooks[0].Rules[0].Operations = []registrationv1.OperationType{updateOp}
	_, err := c.Update(s.ctx, got, metav1.UpdateOptions{})
	s.must(err)
	s.eventually(30*time.Second, "the webhook has no more to do with creates", s.added("second", false))
	_, err = c.Patch(s.ctx, got.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["CREATE"]}]`), metav1.PatchOptions{})
	s.must(err)
	s.eventually(30*time.Second, "the webhook is back", s.added("third", true))
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects
func TestAPIWebhookSparesWebhooks(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{
		"/deny": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return deny("never") },
		"/label": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return patch(`[{"op":"add","path":"/metadata/annotations","value":{"mutated":"yes"}}]`)
		},
	})
	mine := &metav1.LabelSelector{MatchLabels: map[string]string{"victim": s.name}}
	v := h.validating("deny", "/deny", rule("admissionregistration.k8s.io:*", "*", deleteOp))
	v.NamespaceSelector, v.ObjectSelector = nil, mine
	h.validate("deny", v)
	m := h.mutating("label", "/label", rule("admissionregistration.k8s.io:*", "*", createOp))
	m.NamespaceSelector, m.ObjectSelector = nil, mine
	h.mutate("label", m)

	meta := metav1.ObjectMeta{Name: s.name + "-victim", Labels: map[string]string{"victim": s.name}}
	vs, ms := s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations(), s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	dummy := h.validating("dummy", "/deny", rule("", "nothings", createOp))
	dummy.FailurePolicy = ptr.To(registrationv1.Ignore)
	gotV, err := vs.Create(s.ctx, &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: meta, Webhooks: []registrationv1.ValidatingWebhook{dummy}}, metav1.CreateOptions{})
	s.must(err)
	gotM, err := ms.Create(s.ctx, &registrationv1.MutatingWebhookConfiguration{ObjectMeta: meta}, metav1.CreateOptions{})
	s.must(err)
	if len(gotV.Annotations)+len(gotM.Annotations) > 0 {
		t.Errorf("they were mutated: %v %v", gotV.Annotations, gotM.Annotations)
	}
	s.must(errors.Join(vs.Delete(s.ctx, meta.Name, metav1.DeleteOptions{}), ms.Delete(s.ctx, meta.Name, metav1.DeleteOptions{})))
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource
func TestAPIWebhookMutateCustom(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("mutate", "Boat", "v1"))
	h := s.hooks(twoStages)
	boats := rule(d.Spec.Group, "boats", createOp, updateOp)
	h.mutate("custom", h.mutating("one", "/one", boats), h.mutating("two", "/two", boats))
	got, err := s.customs(d, "v1").Create(s.ctx, custom(d, "v1", "boat", map[string]any{"data": map[string]any{"mutation-start": "yes"}}), metav1.CreateOptions{})
	s.must(err)
	equal(s, "the data", "map[mutation-stage-1:yes mutation-stage-2:yes mutation-start:yes]", fmt.Sprint(at(got, "data")))
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning
func TestAPIWebhookMutatePruned(t *testing.T) {
	s := parallel(t)
	d := s.definition("prune", "Boat", "v1")
	d.Spec.Versions[0].Schema = schemaOf(s, `{"type":"object","properties":{"data":{"type":"object","properties":{"mutation-start":{"type":"string"},"mutation-stage-1":{"type":"string"}}}}}`)
	d = s.define(d)
	h := s.hooks(twoStages)
	boats := rule(d.Spec.Group, "boats", createOp)
	h.mutate("custom", h.mutating("one", "/one", boats), h.mutating("two", "/two", boats))
	got, err := s.customs(d, "v1").Create(s.ctx, custom(d, "v1", "boat", map[string]any{"data": map[string]any{"mutation-start": "yes"}}), metav1.CreateOptions{})
	s.must(err)
	equal(s, "the data", "map[mutation-stage-1:yes mutation-start:yes]", fmt.Sprint(at(got, "data")))
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version
func TestAPIWebhookMutateStoredVersion(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("stored", "Boat", "v1", "v2"))
	h := s.hooks(twoStages)
	h.mutate("custom", h.mutating("one", "/one", rule(d.Spec.Group+":*", "boats", createOp, updateOp)))
	_, err := s.customs(d, "v1").Create(s.ctx, custom(d, "v1", "boat", map[string]any{"data": map[string]any{"mutation-start": "yes"}}), metav1.CreateOptions{})
	s.must(err)
	c := s.crds().ApiextensionsV1().CustomResourceDefinitions()
	_, err = c.Patch(s.ctx, d.Name, types.JSONPatchType, []byte(
		`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`), metav1.PatchOptions{})
	s.must(err)
	got, err := s.customs(d, "v1").Patch(s.ctx, "boat", types.MergePatchType, []byte(`{"data":{"dummy":"test"}}`), metav1.PatchOptions{})
	s.must(err)
	equal(s, "the data", "map[dummy:test mutation-stage-1:yes mutation-start:yes]", fmt.Sprint(at(got, "data")))
	s.eventually(30*time.Second, "the stored versions", func() error {
		d, err := c.Get(s.ctx, d.Name, metav1.GetOptions{})
		if err == nil && fmt.Sprint(d.Status.StoredVersions) != "[v1 v2]" {
			err = fmt.Errorf("%v", d.Status.StoredVersions)
		}
		return err
	})
}
