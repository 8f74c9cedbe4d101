package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// other makes another namespace of the test.
func (s *space) other(suffix string) *space {
	s.t.Helper()
	ns, err := s.client.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.name + "-" + suffix}}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the namespace", func(ctx context.Context) error {
		err := s.client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{})
		if apierrors.IsConflict(err) { // it is being deleted
			err = nil
		}
		return err
	})
	own := *s
	own.name = ns.Name
	own.eventually(30*time.Second, "the default service account", func() error {
		_, err := s.client.CoreV1().ServiceAccounts(ns.Name).Get(s.ctx, "default", metav1.GetOptions{})
		return err
	})
	return &own
}

// goes deletes a namespace and waits until it is gone.
func (s *space) goes() {
	s.t.Helper()
	s.must(s.client.CoreV1().Namespaces().Delete(s.ctx, s.name, metav1.DeleteOptions{}))
	s.namespaceGone()
}

func (s *space) namespaceGone() {
	s.t.Helper()
	s.eventually(90*time.Second, "the namespace is gone", func() error {
		ns, err := s.client.CoreV1().Namespaces().Get(s.ctx, s.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is %s: %+v", ns.Status.Phase, ns.Status.Conditions)
		}
		return err
	})
}

// Conformance: [sig-api-machinery] Namespaces should ensure that all pods are removed when a namespace is deleted [Serial]
// Conformance: [sig-api-machinery] Namespaces should ensure that all services are removed when a namespace is deleted [Serial]
func TestAPINamespaceEmpties(t *testing.T) {
	s := parallel(t)
	o := s.other("full")
	o.ready(probePod("pod", "serve"))
	_, err := o.client.CoreV1().Services(o.name).Create(s.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "pod"}, Ports: []corev1.ServicePort{{Port: 80}},
	}}, metav1.CreateOptions{})
	s.must(err)
	o.goes()
	o = s.other("full")
	pods, err := o.client.CoreV1().Pods(o.name).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	services, err := o.client.CoreV1().Services(o.name).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	if len(pods.Items)+len(services.Items) > 0 {
		t.Errorf("the new namespace of the name has %d pods and %d services", len(pods.Items), len(services.Items))
	}
	if _, err := o.client.CoreV1().Services(o.name).Get(s.ctx, "svc", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the service: %v, want not found", err)
	}
}

// Conformance: [sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first
func TestAPINamespaceOrder(t *testing.T) {
	s := parallel(t)
	o := s.other("order")
	p := probePod("pod", "serve")
	p.Finalizers = []string{"e2e.example.com/finalizer"}
	o.ready(p)
	cm, err := o.configMap("cm", nil)
	s.must(err)
	s.must(o.client.CoreV1().Namespaces().Delete(s.ctx, o.name, metav1.DeleteOptions{}))
	o.podIs("pod", "being deleted", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	o.eventually(30*time.Second, "the namespace says what remains", func() error {
		ns, err := o.client.CoreV1().Namespaces().Get(s.ctx, o.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		// Clients take the set of conditions as the word that a pass was made.
		got := map[corev1.NamespaceConditionType]corev1.ConditionStatus{}
		for _, c := range ns.Status.Conditions {
			got[c.Type] = c.Status
		}
		for kind, want := range map[corev1.NamespaceConditionType]corev1.ConditionStatus{
			corev1.NamespaceDeletionDiscoveryFailure: corev1.ConditionFalse, corev1.NamespaceDeletionGVParsingFailure: corev1.ConditionFalse,
			corev1.NamespaceDeletionContentFailure: corev1.ConditionFalse, corev1.NamespaceContentRemaining: corev1.ConditionTrue,
			corev1.NamespaceFinalizersRemaining: corev1.ConditionTrue,
		} {
			if got[kind] != want {
				return fmt.Errorf("%s is %q: %+v", kind, got[kind], ns.Status.Conditions)
			}
		}
		if ns.Status.Phase != corev1.NamespaceTerminating {
			return fmt.Errorf("the namespace is %s", ns.Status.Phase)
		}
		return nil
	})
	s.holds(3*time.Second, "the config map while a pod is left", func() error {
		got, err := o.client.CoreV1().ConfigMaps(o.name).Get(s.ctx, "cm", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got.DeletionTimestamp != nil || got.UID != cm.UID {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	_, err = o.client.CoreV1().Pods(o.name).Patch(s.ctx, "pod", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	s.must(err)
	o.namespaceGone()
}

// Conformance: [sig-api-machinery] Namespaces should patch a Namespace [Serial]
// Conformance: [sig-api-machinery] Namespaces should apply an update to a Namespace [Serial]
// Conformance: [sig-api-machinery] Namespaces should apply changes to a namespace status [Serial]
// Conformance: [sig-api-machinery] Namespaces should apply a finalizer to a Namespace [Serial]
func TestAPINamespaceChanges(t *testing.T) {
	s := parallel(t)
	o := s.other("changes")
	c := s.client.CoreV1().Namespaces()
	ns, err := c.Patch(s.ctx, o.name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"testLabel":"testValue"}}}`), metav1.PatchOptions{})
	s.must(err)
	equal(s, "the label", "testValue", ns.Labels["testLabel"])

	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if ns, err = c.Get(s.ctx, o.name, metav1.GetOptions{}); err != nil {
			return err
		}
		ns.Labels["updated"] = "yes"
		ns, err = c.Update(s.ctx, ns, metav1.UpdateOptions{})
		return err
	}))
	equal(s, "the label", "yes", ns.Labels["updated"])
	equal(s, "the name's label", o.name, ns.Labels[corev1.LabelMetadataName])

	status, err := s.dynamic.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Get(s.ctx, o.name, metav1.GetOptions{}, "status")
	s.must(err)
	equal(s, "the phase", any(string(corev1.NamespaceActive)), at(status, "status", "phase"))
	ns, err = c.Patch(s.ctx, o.name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"e2e-patched":"yes"}},"status":{"conditions":[{"type":"StatusPatch","status":"True","reason":"E2E","message":"m"}]}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	if len(ns.Status.Conditions) != 1 || ns.Status.Conditions[0].Type != "StatusPatch" || ns.Status.Conditions[0].Message != "m" {
		t.Errorf("the patched conditions are %+v", ns.Status.Conditions)
	}
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if ns, err = c.Get(s.ctx, o.name, metav1.GetOptions{}); err != nil {
			return err
		}
		ns.Status.Conditions = append(ns.Status.Conditions, corev1.NamespaceCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E", Message: "m"})
		ns, err = c.UpdateStatus(s.ctx, ns, metav1.UpdateOptions{})
		return err
	}))
	equal(s, "the number of conditions", 2, len(ns.Status.Conditions))

	const finalizer = "e2e.example.com/fakeFinalizer"
	finalize := func(list ...corev1.FinalizerName) *corev1.Namespace {
		t.Helper()
		s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if ns, err = c.Get(s.ctx, o.name, metav1.GetOptions{}); err != nil {
				return err
			}
			ns.Spec.Finalizers = list
			ns, err = c.Finalize(s.ctx, ns, metav1.UpdateOptions{})
			return err
		}))
		return ns
	}
	equal(s, "the finalizers", fmt.Sprint([]string{"kubernetes", finalizer}), fmt.Sprint(finalize("kubernetes", finalizer).Spec.Finalizers))
	equal(s, "the finalizers", "[kubernetes]", fmt.Sprint(finalize("kubernetes").Spec.Finalizers))
	o.goes()
}
