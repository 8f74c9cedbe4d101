package apiserver_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	autoscalingapply "k8s.io/client-go/applyconfigurations/autoscaling/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/apiservertest"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "x"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}}}}
}

// TestPodSubresources binds, evicts, resizes and debugs.
//
// Covers: api.logs-proxy, api.streams
func TestPodSubresources(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "pods")
	if _, err := s.Client.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := s.Client.CoreV1().Pods(ns)
	made, err := pods.Create(ctx, pod("p"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Status.Phase != corev1.PodPending || made.Status.QOSClass != corev1.PodQOSBurstable || made.Spec.ServiceAccountName != "default" || len(made.Spec.Volumes) != 1 || len(made.Spec.Tolerations) != 2 || *made.Spec.Priority != 0 || *made.Spec.PreemptionPolicy != corev1.PreemptLowerPriority || !*made.Spec.EnableServiceLinks {
		t.Errorf("a new pod: %+v %+v", made.Spec, made.Status)
	}
	t.Run("selectors", func(t *testing.T) {
		for sel, want := range map[string]int{"spec.nodeName=": 1, "spec.nodeName=n": 0, "status.phase=Pending": 1, "status.phase!=Pending": 0, "spec.schedulerName=default-scheduler,metadata.name=p": 1, "spec.restartPolicy=Always": 1, "spec.serviceAccountName=default": 1, "status.podIP=": 1, "spec.hostNetwork=false": 1} {
			l, err := pods.List(ctx, metav1.ListOptions{FieldSelector: sel})
			if err != nil || len(l.Items) != want {
				t.Errorf("%s: %d, %v", sel, len(l.Items), err)
			}
		}
	})
	t.Run("binding", func(t *testing.T) {
		b := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"a": "b"}}, Target: corev1.ObjectReference{Kind: "Node", Name: "node1"}}
		if err := pods.Bind(ctx, b, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := pods.Get(ctx, "p", metav1.GetOptions{})
		if err != nil || got.Spec.NodeName != "node1" || got.Annotations["a"] != "b" || len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Type != corev1.PodScheduled || got.Status.Conditions[0].Status != corev1.ConditionTrue {
			t.Errorf("%+v, %v", got, err)
		}
		err = pods.Bind(ctx, b, metav1.CreateOptions{})
		if !apierrors.IsConflict(err) || !contains(err.Error(), "pod p is already assigned to node \"node1\"") {
			t.Errorf("twice: %v", err)
		}
	})
	t.Run("status", func(t *testing.T) {
		got, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"status":{"phase":"Running","podIPs":[{"ip":"198.51.100.4"}],"podIP":"198.51.100.4","conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status")
		if err != nil || got.Status.Phase != corev1.PodRunning || len(got.Status.Conditions) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	t.Run("spec is immutable", func(t *testing.T) {
		_, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"spec":{"hostname":"x"}}`), metav1.PatchOptions{})
		if !apierrors.IsInvalid(err) || !contains(err.Error(), "spec: Forbidden: pod updates may not change fields other than") {
			t.Errorf("got %v", err)
		}
		if _, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"spec":{"containers":[{"name":"c","image":"other"}]}}`), metav1.PatchOptions{}); err != nil {
			t.Errorf("image: %v", err)
		}
	})
	t.Run("resize", func(t *testing.T) {
		got, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"200m"}}}]}}`), metav1.PatchOptions{}, "resize")
		if err != nil || got.Spec.Containers[0].Resources.Requests.Cpu().String() != "200m" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("ephemeral containers", func(t *testing.T) {
		got, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"spec":{"ephemeralContainers":[{"name":"d","image":"busybox","targetContainerName":"c"}]}}`), metav1.PatchOptions{}, "ephemeralcontainers")
		if err != nil || len(got.Spec.EphemeralContainers) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("eviction", func(t *testing.T) {
		one := intstr.FromInt32(1)
		if _, err := s.Client.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		ev := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: ns}}
		a := s.Call(t, "POST", "/api/v1/namespaces/pods/pods/p/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}`, "Content-Type", "application/json")
		if a.Code != 429 || !contains(string(a.Body), "Cannot evict pod as it would violate the pod's disruption budget.") || !contains(string(a.Body), "DisruptionBudget") {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		if err := s.Client.PolicyV1().PodDisruptionBudgets(ns).Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.EvictV1(ctx, ev); err != nil {
			t.Fatal(err)
		}
		got, err := pods.Get(ctx, "p", metav1.GetOptions{})
		if err != nil || got.DeletionTimestamp == nil {
			t.Errorf("%+v, %v", got, err)
		}
		disrupted := false
		for _, c := range got.Status.Conditions {
			disrupted = disrupted || c.Type == corev1.DisruptionTarget && c.Reason == "EvictionByEvictionAPI"
		}
		if !disrupted {
			t.Errorf("conditions %+v", got.Status.Conditions)
		}
	})
	t.Run("bound tokens", func(t *testing.T) {
		p, err := pods.Create(ctx, pod("q"), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ref := &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "q", UID: p.UID}
		tok, err := s.Client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: ref}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c := kubernetes.NewForConfigOrDie(s.WithToken(tok.Status.Token)).AuthenticationV1().SelfSubjectReviews()
		if _, err := c.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(ctx, "q", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		within(t, "the end of the token with its pod", func() bool {
			_, err := c.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			return apierrors.IsUnauthorized(err)
		})
	})
}

// TestOtherSubresources is about scale, approval and the like.
func TestOtherSubresources(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "subs")
	t.Run("scale", func(t *testing.T) {
		ds := s.Client.AppsV1().Deployments(ns)
		if _, err := ds.Create(ctx, deployment("d"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		sc, err := ds.GetScale(ctx, "d", metav1.GetOptions{})
		if err != nil || sc.Spec.Replicas != 1 || sc.Status.Selector != "a=b" || sc.ResourceVersion == "" {
			t.Fatalf("%+v, %v", sc, err)
		}
		sc.Spec.Replicas = 4
		if sc, err = ds.UpdateScale(ctx, "d", sc, metav1.UpdateOptions{}); err != nil || sc.Spec.Replicas != 4 {
			t.Fatalf("%+v, %v", sc, err)
		}
		got, err := ds.Get(ctx, "d", metav1.GetOptions{})
		if err != nil || *got.Spec.Replicas != 4 || got.Generation != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		old := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: ns, ResourceVersion: "1"}}
		if _, err := ds.UpdateScale(ctx, "d", old, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("an old one: %v", err)
		}
		old.ResourceVersion, old.Spec.Replicas = "", -1
		if _, err := ds.UpdateScale(ctx, "d", old, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("a negative one: %v", err)
		}
		for name, tc := range map[string]struct{ patch, mode, want string }{
			"unknown field": {`{"spec":{"replicas":5,"foo":1}}`, "Strict", `unknown field "spec.foo"`},
			"told twice":    {`{"spec":{"replicas":5,"replicas":6}}`, "Strict", `duplicate field "spec.replicas"`},
			"no number":     {`{"spec":{"replicas":"x"}}`, "Ignore", "cannot unmarshal string"},
			"another kind":  {`{"kind":"X"}`, "Ignore", "X"},
		} {
			_, err := ds.Patch(ctx, "d", types.MergePatchType, []byte(tc.patch), metav1.PatchOptions{FieldValidation: tc.mode}, "scale")
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("apply of a scale", func(t *testing.T) {
		ds := s.Client.AppsV1().Deployments(ns)
		if _, err := ds.Create(ctx, deployment("applied"), metav1.CreateOptions{FieldManager: "maker"}); err != nil {
			t.Fatal(err)
		}
		apply := func(manager string, replicas int32, force bool) error {
			sc, err := ds.ApplyScale(ctx, "applied", autoscalingapply.Scale().WithName("applied").WithSpec(autoscalingapply.ScaleSpec().WithReplicas(replicas)),
				metav1.ApplyOptions{FieldManager: manager, Force: force})
			if err == nil && sc.Spec.Replicas != replicas {
				t.Errorf("applied %d, got %d", replicas, sc.Spec.Replicas)
			}
			return err
		}
		if err := apply("one", 5, false); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "maker" using autoscaling/v1: .spec.replicas`) {
			t.Errorf("another's replicas: %v", err)
		}
		if err := apply("one", 5, true); err != nil {
			t.Errorf("by force: %v", err)
		}
		if err := apply("one", 6, false); err != nil {
			t.Errorf("its own: %v", err)
		}
		if err := apply("two", 7, false); !apierrors.IsConflict(err) {
			t.Errorf("the first one's: %v", err)
		}
		if err := apply("", 6, true); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "fieldManager: Required value: is required for apply patch") {
			t.Errorf("nobody's: %v", err)
		}
		if err := apply("one", -1, true); !apierrors.IsInvalid(err) {
			t.Errorf("a negative number: %v", err)
		}
		got, err := ds.Get(ctx, "applied", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var owns []string
		for _, m := range got.ManagedFields {
			if strings.Contains(string(m.FieldsV1.Raw), `"f:replicas"`) {
				owns = append(owns, fmt.Sprint(m.Manager, m.Operation, m.Subresource))
			}
		}
		if d := cmp.Diff([]string{"oneApplyscale"}, owns); d != "" || *got.Spec.Replicas != 6 {
			t.Errorf("%d replicas, whose managers are (-want +got):\n%s", *got.Spec.Replicas, d)
		}
	})
	t.Run("approval", func(t *testing.T) {
		var spec struct {
			Spec certificatesv1.CertificateSigningRequestSpec
		}
		if err := yaml.Unmarshal([]byte(signingRequest(t)), &spec); err != nil {
			t.Fatal(err)
		}
		csrs := kubernetes.NewForConfigOrDie(s.Admin).CertificatesV1().CertificateSigningRequests()
		csr, err := csrs.Create(ctx, &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: spec.Spec}, metav1.CreateOptions{})
		if err != nil || csr.Spec.Username != "admin" || !strings.Contains(strings.Join(csr.Spec.Groups, ","), "system:masters") {
			t.Fatalf("%+v, %v", csr, err)
		}
		csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "r"}}
		if same, err := csrs.UpdateStatus(ctx, csr, metav1.UpdateOptions{}); err == nil && len(same.Status.Conditions) != 0 {
			t.Error("the status approves")
		}
		cur, err := csrs.Get(ctx, "c", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cur.Status.Conditions = csr.Status.Conditions
		if cur, err = csrs.UpdateApproval(ctx, "c", cur, metav1.UpdateOptions{}); err != nil || len(cur.Status.Conditions) != 1 || cur.Status.Conditions[0].LastUpdateTime.IsZero() {
			t.Errorf("%+v, %v", cur, err)
		}
	})
	t.Run("a kubelet behind the server", func(t *testing.T) {
		kubelet := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(r.URL.Path + "?" + r.URL.RawQuery)) // the test reads it
		}))
		kubelet.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		kubelet.StartTLS()
		t.Cleanup(kubelet.Close)
		host, port, err := net.SplitHostPort(kubelet.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(n)}}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		p := pod("logs")
		p.Spec.NodeName = "node1"
		made, err := s.Client.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Client.CoreV1().Pods(ns).GetLogs("logs", &corev1.PodLogOptions{TailLines: ptr(int64(5)), Previous: true}).DoRaw(ctx)
		if err != nil || string(b) != "/containerLogs/subs/logs/c?previous=true&tailLines=5" {
			t.Errorf("%s, %v", b, err)
		}
		if a := s.Call(t, "GET", "/api/v1/namespaces/subs/pods/logs/log?container=none", ""); a.Code != 400 || !contains(string(a.Body), "container none is not valid for pod logs") {
			t.Errorf("another container: %d %s", a.Code, a.Body)
		}
		a := s.Call(t, "GET", "/api/v1/nodes/node1/proxy/stats/summary?x=y", "")
		if a.Code != 200 || string(a.Body) != "/stats/summary?x=y" {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		tok, err := s.Client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "logs", UID: made.UID}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		who, err := kubernetes.NewForConfigOrDie(s.WithToken(tok.Status.Token)).AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || who.Status.UserInfo.Extra["authentication.kubernetes.io/pod-name"][0] != "logs" || who.Status.UserInfo.Extra["authentication.kubernetes.io/node-name"][0] != "node1" {
			t.Errorf("%+v, %v", who, err)
		}
	})
}
