package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"
)

const createOp, updateOp, deleteOp = registrationv1.Create, registrationv1.Update, registrationv1.Delete

// denyData refuses config maps, and custom resources, whose data says so.
func denyData(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	raw := r.Object.Raw
	if r.Operation == admissionv1.Delete {
		raw = r.OldObject.Raw
	}
	var o struct{ Data map[string]string }
	if err := json.Unmarshal(raw, &o); err != nil {
		return deny(err.Error())
	}
	for _, v := range o.Data {
		if v == "webhook-disallow" {
			return deny("the object contains unwanted key and value")
		}
	}
	return nil
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation
func TestAPIWebhookDeny(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{
		"/pods": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			var p corev1.Pod
			if err := json.Unmarshal(r.Object.Raw, &p); err != nil {
				return deny(err.Error())
			}
			if p.Labels["hang"] != "" {
				time.Sleep(4 * time.Second)
			}
			if p.Labels["bad"] != "" {
				return deny("the pod contains unwanted label")
			}
			return nil
		},
		"/configmaps": denyData,
	})
	pods := h.validating("pods", "/pods", rule("", "pods", createOp))
	pods.TimeoutSeconds = ptr.To[int32](2)
	maps := h.validating("maps", "/configmaps", rule("", "configmaps", createOp, updateOp, deleteOp))
	maps.NamespaceSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "skip", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"yes"}}}
	h.validate("deny", pods, maps)

	create := func(label string) error {
		p := probePod("p"+label, "serve")
		p.Labels = map[string]string{label: "1"}
		_, err := s.client.CoreV1().Pods(s.name).Create(s.ctx, p, metav1.CreateOptions{})
		return err
	}
	s.denied("a bad pod", create("bad"), `admission webhook "pods.example.com" denied the request: the pod contains unwanted label`)
	s.denied("a pod whose webhook hangs", create("hang"), "deadline")
	if _, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "phang", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod whose webhook hung: %v, want not found", err)
	}
	_, err := s.configMap("bad", map[string]string{"k": "webhook-disallow"})
	s.denied("a bad config map", err, `admission webhook "maps.example.com" denied the request: the object contains unwanted key and value`)
	good, err := s.configMap("good", map[string]string{"k": "v"})
	s.must(err)
	good.Data["k"] = "webhook-disallow"
	c := s.client.CoreV1().ConfigMaps(s.name)
	_, err = c.Update(s.ctx, good, metav1.UpdateOptions{})
	s.denied("an update", err, "unwanted key and value")
	for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		_, err = c.Patch(s.ctx, "good", kind, []byte(`{"data":{"k":"webhook-disallow"}}`), metav1.PatchOptions{})
		s.denied("a patch", err, "unwanted key and value")
	}
	_, err = s.client.CoreV1().Namespaces().Patch(s.ctx, s.name, types.MergePatchType, []byte(`{"metadata":{"labels":{"skip":"yes"}}}`), metav1.PatchOptions{})
	s.must(err)
	s.eventually(30*time.Second, "the exempt namespace takes it", func() error {
		_, err := s.configMap("exempt", map[string]string{"k": "webhook-disallow"})
		return err
	})
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod
func TestAPIWebhookAttach(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{"/attach": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if r.SubResource != "attach" || r.Operation != admissionv1.Connect || !strings.Contains(string(r.Object.Raw), "PodAttachOptions") {
			return deny("unexpected review")
		}
		return deny("attaching to pod '" + r.Name + "' is not allowed")
	}})
	h.validate("attach", h.validating("attach", "/attach", rule("", "pods/attach", registrationv1.Connect)))
	s.ready(probePod("pod", "serve"))
	url := s.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.name).Name("pod").SubResource("attach").
		VersionedParams(&corev1.PodAttachOptions{Container: "main", Stdout: true}, scheme.ParameterCodec).URL()
	spdy, err := remotecommand.NewSPDYExecutor(s.config, "POST", url)
	s.must(err)
	ws, err := remotecommand.NewWebSocketExecutor(s.config, "GET", url.String())
	s.must(err)
	for name, e := range map[string]remotecommand.Executor{"SPDY": spdy, "WebSocket": ws} {
		err := e.StreamWithContext(s.ctx, remotecommand.StreamOptions{Stdout: &strings.Builder{}})
		s.denied("attach over "+name, err, "attaching to pod 'pod' is not allowed")
	}
	out, err := s.kubectl("", "attach", "pod", "-c", "main")
	if err == nil || !strings.Contains(out, "attaching to pod 'pod' is not allowed") {
		t.Errorf("kubectl attach: %v\n%s", err, out)
	}
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation
func TestAPIWebhookDenyDefinition(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{"/crd": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return deny("the crd contains unwanted label")
	}})
	v := h.validating("crd", "/crd", rule("apiextensions.k8s.io:*", "customresourcedefinitions", createOp))
	v.NamespaceSelector, v.ObjectSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"unwanted": s.name}}
	h.validate("crd", v)
	d := s.definition("deny", "Boat", "v1")
	d.Labels = map[string]string{"unwanted": s.name}
	_, err := s.crds().ApiextensionsV1().CustomResourceDefinitions().Create(s.ctx, d, metav1.CreateOptions{})
	s.denied("the definition", err, `admission webhook "crd.example.com" denied the request: the crd contains unwanted label`)
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion
func TestAPIWebhookDenyCustom(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("deny", "Boat", "v1"))
	h := s.hooks(map[string]judge{"/custom": denyData})
	h.validate("custom", h.validating("custom", "/custom", rule(d.Spec.Group, "boats", createOp, updateOp, deleteOp)))
	c := s.customs(d, "v1")
	data := func(v string) map[string]any { return map[string]any{"data": map[string]any{"k": v}} }
	_, err := c.Create(s.ctx, custom(d, "v1", "bad", data("webhook-disallow")), metav1.CreateOptions{})
	s.denied("a create", err, "unwanted key and value")
	good, err := c.Create(s.ctx, custom(d, "v1", "good", data("v")), metav1.CreateOptions{})
	s.must(err)
	good.Object["data"] = map[string]any{"k": "webhook-disallow"}
	_, err = c.Update(s.ctx, good, metav1.UpdateOptions{})
	s.denied("an update", err, "unwanted key and value")

	// What is there already may not be deleted while it says so.
	s.must(s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(s.ctx, s.name+"-custom", metav1.DeleteOptions{}))
	s.eventually(30*time.Second, "the webhook is gone", func() error {
		_, err := c.Patch(s.ctx, "good", types.MergePatchType, []byte(`{"data":{"k":"webhook-disallow"}}`), metav1.PatchOptions{})
		return err
	})
	h.validate("custom2", h.validating("custom", "/custom", rule(d.Spec.Group, "boats", deleteOp)))
	s.denied("a delete", c.Delete(s.ctx, "good", metav1.DeleteOptions{}), "unwanted key and value")
	_, err = c.Patch(s.ctx, "good", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{})
	s.must(err)
	s.must(c.Delete(s.ctx, "good", metav1.DeleteOptions{}))
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook
func TestAPIWebhookFailsClosed(t *testing.T) {
	s := parallel(t)
	h := s.hooks(nil)
	v := h.validating("closed", "/configmaps", rule("", "configmaps", createOp))
	v.ClientConfig.CABundle = nil
	v.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: markerLabel, Operator: metav1.LabelSelectorOpDoesNotExist}}}
	h.validate("closed", v)
	if _, err := s.configMap("cm", nil); !apierrors.IsInternalError(err) {
		t.Errorf("a config map: %v, want an internal error", err)
	}
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout
func TestAPIWebhookTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		seconds *int32
		policy  registrationv1.FailurePolicyType
		fails   bool
	}{
		"short-fail":   {ptr.To[int32](1), registrationv1.Fail, true},
		"short-ignore": {ptr.To[int32](1), registrationv1.Ignore, false},
		"long":         {ptr.To[int32](10), registrationv1.Fail, false},
		"default":      {nil, registrationv1.Fail, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			h := s.hooks(map[string]judge{"/slow": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
				time.Sleep(5 * time.Second)
				return nil
			}})
			v := h.validating("slow", "/slow", rule("", "configmaps", createOp))
			v.TimeoutSeconds, v.FailurePolicy = tc.seconds, &tc.policy
			v.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: markerLabel, Operator: metav1.LabelSelectorOpDoesNotExist}}}
			h.validate("slow", v)
			_, err := s.configMap("cm", nil)
			if !tc.fails {
				s.must(err)
				return
			}
			s.denied("a config map", err, "/slow?timeout=1s")
			s.denied("a config map", err, "context deadline exceeded")
		})
	}
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work
func TestAPIWebhookListValidating(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{"/configmaps": denyData})
	c := s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	for i := range 10 {
		h.validate(fmt.Sprint("list-", i), h.validating("maps", "/configmaps", rule("", "configmaps", createOp)))
	}
	label := metav1.ListOptions{LabelSelector: "test=" + s.name}
	list, err := c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number listed", 10, len(list.Items))
	_, err = s.configMap("bad", map[string]string{"k": "webhook-disallow"})
	s.denied("a bad config map", err, "unwanted key and value")
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label))
	s.eventually(30*time.Second, "the webhooks are gone", func() error {
		_, err := s.configMap("bad", map[string]string{"k": "webhook-disallow"})
		return err
	})
}

// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work
func TestAPIWebhookChangeValidating(t *testing.T) {
	s := parallel(t)
	h := s.hooks(map[string]judge{"/configmaps": denyData})
	h.validate("change", h.validating("maps", "/configmaps", rule("", "configmaps", createOp)))
	c := s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	tried := 0
	try := func() error {
		tried++
		_, err := s.configMap(fmt.Sprint("bad-", tried), map[string]string{"k": "webhook-disallow"})
		return err
	}
	s.denied("a bad config map", try(), "unwanted key and value")
	got, err := c.Get(s.ctx, s.name+"-change", metav1.GetOptions{})
	s.must(err)
	got.Webhooks[0].Rules[0].Operations = []registrationv1.OperationType{updateOp}
	_, err = c.Update(s.ctx, got, metav1.UpdateOptions{})
	s.must(err)
	s.eventually(30*time.Second, "the webhook has no more to do with creates", try)
	_, err = c.Patch(s.ctx, got.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["CREATE"]}]`), metav1.PatchOptions{})
	s.must(err)
	s.eventually(30*time.Second, "the webhook is back", func() error {
		if err := try(); err == nil || !strings.Contains(err.Error(), "unwanted key and value") {
			return fmt.Errorf("answer %v", err)
		}
		return nil
	})
}
