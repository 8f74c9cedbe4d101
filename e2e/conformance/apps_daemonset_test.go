package conformance

import (
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

func (s *space) daemon(ds *appsv1.DaemonSet) *appsv1.DaemonSet {
	s.t.Helper()
	out, err := s.client.AppsV1().DaemonSets(s.name).Create(s.ctx, ds, metav1.CreateOptions{})
	s.must(err)
	return out
}

func (s *space) updateDaemon(name string, change func(*appsv1.DaemonSet)) {
	s.t.Helper()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		ds, err := s.client.AppsV1().DaemonSets(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(ds)
		_, err = s.client.AppsV1().DaemonSets(s.name).Update(s.ctx, ds, metav1.UpdateOptions{})
		return err
	}))
}

func (s *space) nodes() []corev1.Node {
	s.t.Helper()
	list, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	s.must(err)
	return list.Items
}

// daemons waits until each node, or each of those named, runs one ready pod.
func (s *space) daemons(app string, nodes ...string) []corev1.Pod {
	s.t.Helper()
	pods := s.running(app, len(nodes))
	on := map[string]int{}
	for _, p := range pods {
		on[p.Spec.NodeName]++
	}
	for _, n := range nodes {
		if on[n] != 1 {
			s.t.Errorf("node %s runs %d pods of %s, want 1", n, on[n], app)
		}
	}
	s.eventually(30*time.Second, "the status of "+app, func() error {
		ds, err := s.client.AppsV1().DaemonSets(s.name).Get(s.ctx, app, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n := int32(len(nodes))
		if st := ds.Status; st.DesiredNumberScheduled != n || st.CurrentNumberScheduled != n || st.NumberReady != n || st.NumberAvailable != n {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	return pods
}

func (s *space) everyNode() []string {
	var out []string
	for _, n := range s.nodes() {
		out = append(out, n.Name)
	}
	return out
}

// Conformance: [sig-apps] Daemon set should run and stop simple daemon [Serial]
func TestAppsDaemonSimple(t *testing.T) {
	s := parallel(t)
	s.daemon(daemonSet("ds"))
	pods := s.daemons("ds", s.everyNode()...)
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, pods[0].Name, metav1.DeleteOptions{}))
	s.gone("the deleted pod", func() error {
		_, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, pods[0].Name, metav1.GetOptions{})
		return err
	})
	s.daemons("ds", s.everyNode()...)
	s.must(s.client.AppsV1().DaemonSets(s.name).Delete(s.ctx, "ds", metav1.DeleteOptions{}))
	s.eventually(30*time.Second, "no pods", func() error {
		if n := len(s.podsOf("ds")); n > 0 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
}

// Conformance: [sig-apps] Daemon set should retry creating failed daemon pods [Serial]
func TestAppsDaemonFailed(t *testing.T) {
	s := parallel(t)
	s.daemon(daemonSet("ds"))
	failed := s.daemons("ds", s.everyNode()...)[0]
	failed.ResourceVersion = ""
	failed.Status.Phase = corev1.PodFailed
	_, err := s.client.CoreV1().Pods(s.name).UpdateStatus(s.ctx, &failed, metav1.UpdateOptions{})
	s.must(err)
	s.gone("the failed pod", func() error {
		_, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, failed.Name, metav1.GetOptions{})
		return err
	})
	s.daemons("ds", s.everyNode()...)
}

// Conformance: [sig-apps] Daemon set should run and stop complex daemon [Serial]
func TestAppsDaemonComplex(t *testing.T) {
	s := parallel(t)
	key := s.name + "-color"
	node := s.everyNode()[0]
	color := func(value any) {
		t.Helper()
		_, err := s.client.CoreV1().Nodes().Patch(s.ctx, node, types.StrategicMergePatchType, s.json(map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}}), metav1.PatchOptions{})
		s.must(err)
	}
	defer color(nil)
	ds := daemonSet("ds")
	ds.Spec.Template.Spec.NodeSelector = map[string]string{key: "blue"}
	s.daemon(ds)
	s.daemons("ds")
	color("blue")
	s.daemons("ds", node)
	color("green")
	s.daemons("ds")
	s.updateDaemon("ds", func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector[key] = "green"
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType}
	})
	s.daemons("ds", node)
}

// revisionsOf are the ControllerRevisions of an application by their revision.
func (s *space) revisionsOf(app string) map[int64]appsv1.ControllerRevision {
	s.t.Helper()
	list, err := s.client.AppsV1().ControllerRevisions(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	s.must(err)
	out := map[int64]appsv1.ControllerRevision{}
	for _, r := range list.Items {
		out[r.Revision] = r
	}
	return out
}

// Conformance: [sig-apps] Daemon set should update pod when spec was updated and update strategy is RollingUpdate [Serial]
func TestAppsDaemonUpdate(t *testing.T) {
	s := parallel(t)
	made := s.daemon(daemonSet("ds"))
	check := func(revision int64, image string) {
		t.Helper()
		hash := s.revisionsOf("ds")[revision].Labels[appsv1.ControllerRevisionHashLabelKey]
		if hash == "" {
			t.Fatalf("revision %d has no hash", revision)
		}
		if r := s.revisionsOf("ds")[revision]; owner(&r).UID != made.UID || r.Name != "ds-"+hash {
			t.Errorf("revision %d is %s of %+v", revision, r.Name, owner(&r))
		}
		s.eventually(60*time.Second, "the pods of "+image, func() error {
			for _, p := range s.podsOf("ds") {
				if p.Spec.Containers[0].Image != image || p.Labels[appsv1.ControllerRevisionHashLabelKey] != hash || p.Labels["pod-template-generation"] == "" {
					return fmt.Errorf("pod %s has image %s and labels %v, want hash %s", p.Name, p.Spec.Containers[0].Image, p.Labels, hash)
				}
			}
			return nil
		})
		s.daemons("ds", s.everyNode()...)
	}
	s.daemons("ds", s.everyNode()...)
	check(1, "probe")
	_, err := s.client.AppsV1().DaemonSets(s.name).Patch(s.ctx, "ds", types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"probe:1"}]}}}}`), metav1.PatchOptions{})
	s.must(err)
	s.eventually(30*time.Second, "revision 2", func() error {
		if _, ok := s.revisionsOf("ds")[2]; !ok {
			return errors.New("it is not there")
		}
		return nil
	})
	check(2, "probe:1")
}

// Conformance: [sig-apps] Daemon set should rollback without unnecessary restarts [Serial]
func TestAppsDaemonRollback(t *testing.T) {
	s := parallel(t)
	s.daemon(daemonSet("ds"))
	before := map[types.UID]bool{}
	for _, p := range s.daemons("ds", s.everyNode()...) {
		before[p.UID] = true
	}
	s.updateDaemon("ds", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = absent })
	s.eventually(60*time.Second, "a pod of the broken image", func() error {
		for _, p := range s.podsOf("ds") {
			if p.Spec.Containers[0].Image == absent {
				return nil
			}
		}
		return errors.New("there is none")
	})
	old, broken := 0, 0
	for _, p := range s.podsOf("ds") {
		if before[p.UID] {
			old++
		} else {
			broken++
		}
	}
	if old != len(before)-1 || broken != 1 {
		t.Errorf("%d pods of the old image and %d of the broken one run, want %d and 1", old, broken, len(before)-1)
	}
	s.updateDaemon("ds", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = "probe" })
	var kept int
	s.eventually(60*time.Second, "no pod of the broken image", func() error {
		kept = 0
		for _, p := range s.podsOf("ds") {
			if p.Spec.Containers[0].Image == absent {
				return errors.New("there is one")
			}
			if before[p.UID] {
				kept++
			}
		}
		return nil
	})
	pods := s.daemons("ds", s.everyNode()...)
	if kept != old {
		t.Errorf("%d of the %d pods that never were updated remain", kept, old)
	}
	for _, p := range pods {
		if before[p.UID] && p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("pod %s was restarted", p.Name)
		}
	}
	got := s.revisionsOf("ds")
	if _, ok := got[3]; len(got) != 2 || !ok {
		t.Errorf("the revisions are %v, want the rollback to be revision 3 of 2", got)
	}
}

// Conformance: [sig-apps] ControllerRevision should manage the lifecycle of a ControllerRevision [Serial]
func TestAppsControllerRevision(t *testing.T) {
	s := parallel(t)
	revisions := s.client.AppsV1().ControllerRevisions(s.name)
	s.daemon(daemonSet("ds"))
	s.daemons("ds", s.everyNode()...)
	count := func(selector string, want int) []appsv1.ControllerRevision {
		t.Helper()
		var list *appsv1.ControllerRevisionList
		s.eventually(30*time.Second, fmt.Sprintf("%d revisions of %s", want, selector), func() (err error) {
			if list, err = s.client.AppsV1().ControllerRevisions("").List(s.ctx, metav1.ListOptions{LabelSelector: selector}); err != nil {
				return err
			}
			in := 0
			for _, r := range list.Items {
				if r.Namespace == s.name {
					in++
				}
			}
			if in != want {
				return fmt.Errorf("there are %d", in)
			}
			return nil
		})
		return list.Items
	}
	first := s.revisionsOf("ds")[1]
	count("app=ds", 1)
	patched, err := revisions.Patch(s.ctx, first.Name, types.StrategicMergePatchType, s.json(map[string]any{"metadata": map[string]any{"labels": map[string]any{first.Name: "patched"}}}), metav1.PatchOptions{})
	s.must(err)
	if patched.Labels[first.Name] != "patched" {
		t.Errorf("the patched revision has labels %v", patched.Labels)
	}
	second := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: "ds-second", Labels: map[string]string{"app": "ds", appsv1.ControllerRevisionHashLabelKey: "second"}, OwnerReferences: first.OwnerReferences,
		},
		Data: first.Data, Revision: first.Revision + 1,
	}
	made, err := revisions.Create(s.ctx, second, metav1.CreateOptions{})
	s.must(err)
	count("app=ds", 2)
	// The data never changes.
	made.Data.Raw = []byte(`{"spec":{"template":{"$patch":"replace"}}}`)
	if _, err := revisions.Update(s.ctx, made, metav1.UpdateOptions{}); err == nil {
		t.Error("the data of a revision was changed")
	}
	s.must(revisions.Delete(s.ctx, first.Name, metav1.DeleteOptions{}))
	s.gone("the deleted revision", func() error {
		_, err := revisions.Get(s.ctx, first.Name, metav1.GetOptions{})
		if err == nil && len(s.revisionsOf("ds")) == 1 {
			return errors.New("and it is alone")
		}
		return err
	})
	count("app=ds", 1)
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		r, err := revisions.Get(s.ctx, "ds-second", metav1.GetOptions{})
		if err != nil {
			return err
		}
		r.Labels["updated"] = "true"
		_, err = revisions.Update(s.ctx, r, metav1.UpdateOptions{})
		return err
	}))
	count("updated=true", 1)
	_, err = s.client.AppsV1().DaemonSets(s.name).Patch(s.ctx, "ds", types.StrategicMergePatchType, s.json(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"terminationGracePeriodSeconds": 2}}}}), metav1.PatchOptions{})
	s.must(err)
	count("app=ds", 2)
	s.must(revisions.DeleteCollection(s.ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, metav1.ListOptions{LabelSelector: "updated=true"}))
	last := count("app=ds", 1)
	for _, r := range last {
		if r.Namespace == s.name && r.Revision != 3 {
			t.Errorf("the current revision is %d, want 3", r.Revision)
		}
	}
}
