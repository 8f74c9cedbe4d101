package conformance

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// quantities reads a resource list from pairs.
func quantities(pairs map[string]string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for k, v := range pairs {
		out[corev1.ResourceName(k)] = resource.MustParse(v)
	}
	return out
}

// quota makes a quota and waits until its status is calculated.
func (s *space) quota(name string, hard map[string]string, scopes ...corev1.ResourceQuotaScope) {
	s.t.Helper()
	_, err := s.client.CoreV1().ResourceQuotas(s.name).Create(s.ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test": s.name}}, Spec: corev1.ResourceQuotaSpec{Hard: quantities(hard), Scopes: scopes},
	}, metav1.CreateOptions{})
	s.must(err)
	s.eventually(30*time.Second, "the quota's status", func() error {
		q, err := s.client.CoreV1().ResourceQuotas(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for k, v := range q.Spec.Hard {
			got, ok := q.Status.Hard[k]
			_, used := q.Status.Used[k]
			if !ok || !used || got.Cmp(v) != 0 {
				return fmt.Errorf("status %+v", q.Status)
			}
		}
		return nil
	})
}

// used waits until a quota counts these amounts, and others whatever they are.
func (s *space) used(name string, want map[string]string) {
	s.t.Helper()
	s.eventually(60*time.Second, fmt.Sprint("the use in quota ", name, " is ", want), func() error {
		q, err := s.client.CoreV1().ResourceQuotas(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for k, v := range quantities(want) {
			if got := q.Status.Used[k]; got.Cmp(v) != 0 {
				return fmt.Errorf("%s is %s, want %s", k, got.String(), v.String())
			}
		}
		return nil
	})
}

// requests sets what the container of a pod requests and may use.
func requests(p *corev1.Pod, requests, limits map[string]string) *corev1.Pod {
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: quantities(requests), Limits: quantities(limits)}
	return p
}

// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated.
// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret.
// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap.
// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service.
// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller.
// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set.
func TestAPIQuotaObjects(t *testing.T) {
	s := parallel(t)
	s.eventually(30*time.Second, "the root certificates", func() error {
		_, err := s.client.CoreV1().ConfigMaps(s.name).Get(s.ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	s.quota("quota", map[string]string{
		"pods": "5", "services": "10", "services.nodeports": "1", "services.loadbalancers": "1", "replicationcontrollers": "10", "resourcequotas": "1",
		"configmaps": "10", "secrets": "10", "persistentvolumeclaims": "10", "requests.storage": "10Gi", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi",
		"count/replicasets.apps": "5", "gold.storageclass.storage.k8s.io/requests.storage": "10Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
	})
	s.used("quota", map[string]string{"resourcequotas": "1", "secrets": "0", "configmaps": "1", "services": "0", "replicationcontrollers": "0", "count/replicasets.apps": "0"})
	core := s.client.CoreV1()

	_, err := core.Secrets(s.name).Create(s.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "secret"}, Data: map[string][]byte{"a": []byte("b")}}, metav1.CreateOptions{})
	s.must(err)
	s.used("quota", map[string]string{"secrets": "1"})
	_, err = s.configMap("cm", nil)
	s.must(err)
	s.used("quota", map[string]string{"configmaps": "2"})

	service := func(name string, kind corev1.ServiceType) error {
		_, err := core.Services(s.name).Create(s.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Type: kind, Ports: []corev1.ServicePort{{Port: 80}}, AllocateLoadBalancerNodePorts: onlyFor(kind),
		}}, metav1.CreateOptions{})
		return err
	}
	s.must(service("cluster", corev1.ServiceTypeClusterIP))
	s.must(service("node", corev1.ServiceTypeNodePort))
	s.used("quota", map[string]string{"services": "2", "services.nodeports": "1", "services.loadbalancers": "0"})
	if err := service("node2", corev1.ServiceTypeNodePort); !apierrors.IsForbidden(err) {
		t.Errorf("a second node port: %v, want forbidden", err)
	}
	s.must(service("balanced", corev1.ServiceTypeLoadBalancer))
	s.used("quota", map[string]string{"services": "3", "services.nodeports": "1", "services.loadbalancers": "1"})

	template := probePod("x", "serve")
	template.Spec.RestartPolicy = corev1.RestartPolicyAlways
	spec := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec}
	_, err = core.ReplicationControllers(s.name).Create(s.ctx, &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "rc"},
		Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](0), Selector: template.Labels, Template: &spec}}, metav1.CreateOptions{})
	s.must(err)
	_, err = s.client.AppsV1().ReplicaSets(s.name).Create(s.ctx, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "rs"},
		Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](0), Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: spec}}, metav1.CreateOptions{})
	s.must(err)
	s.used("quota", map[string]string{"replicationcontrollers": "1", "count/replicasets.apps": "1"})

	s.must(core.Secrets(s.name).Delete(s.ctx, "secret", metav1.DeleteOptions{}))
	s.must(core.ConfigMaps(s.name).Delete(s.ctx, "cm", metav1.DeleteOptions{}))
	s.must(core.ReplicationControllers(s.name).Delete(s.ctx, "rc", metav1.DeleteOptions{}))
	s.must(s.client.AppsV1().ReplicaSets(s.name).Delete(s.ctx, "rs", metav1.DeleteOptions{}))
	for _, name := range []string{"cluster", "node", "balanced"} {
		s.must(core.Services(s.name).Delete(s.ctx, name, metav1.DeleteOptions{}))
	}
	s.used("quota", map[string]string{"secrets": "0", "configmaps": "1", "services": "0", "services.nodeports": "0", "services.loadbalancers": "0", "replicationcontrollers": "0", "count/replicasets.apps": "0"})
}

// onlyFor spares node ports of balanced services, of which the quota has one.
func onlyFor(kind corev1.ServiceType) *bool {
	if kind == corev1.ServiceTypeLoadBalancer {
		return ptr.To(false)
	}
	return nil
}

// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod.
func TestAPIQuotaPod(t *testing.T) {
	s := parallel(t)
	s.quota("quota", map[string]string{"pods": "5", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi", "requests.example.com/dongle": "3"})
	amount := map[string]string{"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"}
	dongle := map[string]string{"example.com/dongle": "2"}
	p := requests(probePod("pod", "serve"), amount, dongle)
	s.pod(p)
	used := map[string]string{"pods": "1", "cpu": "500m", "memory": "252Mi", "requests.ephemeral-storage": "30Gi", "requests.example.com/dongle": "2"}
	s.used("quota", used)
	pods := s.client.CoreV1().Pods(s.name)
	for name, more := range map[string]map[string]string{
		"cpu":    {"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"},
		"dongle": {"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "1Gi", "example.com/dongle": "2"},
		"none":   {"cpu": "100m"},
	} {
		limits := map[string]string{}
		if more["example.com/dongle"] != "" {
			limits = dongle
		}
		_, err := pods.Create(s.ctx, requests(probePod(name, "serve"), more, limits), metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("a pod beyond the quota for %s: %v, want forbidden", name, err)
		}
	}
	got, err := pods.Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	got.Spec.Containers[0].Resources.Requests = quantities(map[string]string{"cpu": "100m", "memory": "100Mi"})
	if _, err := pods.Update(s.ctx, got, metav1.UpdateOptions{}); err == nil {
		t.Error("a pod's requests were changed by an update")
	}
	s.used("quota", used)
	s.must(pods.Delete(s.ctx, "pod", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))
	s.used("quota", map[string]string{"pods": "0", "cpu": "0", "memory": "0", "requests.ephemeral-storage": "0", "requests.example.com/dongle": "0"})
}

func TestAPIQuotaScopes(t *testing.T) {
	amount := map[string]string{"cpu": "500m", "memory": "200Mi"}
	limits := map[string]string{"cpu": "1", "memory": "400Mi"}
	ending := func(p *corev1.Pod) *corev1.Pod {
		p.Spec.ActiveDeadlineSeconds = ptr.To[int64](3600)
		return p
	}
	for name, tc := range map[string]struct {
		scopes [2]corev1.ResourceQuotaScope
		hard   [2]map[string]string
		pods   [2]*corev1.Pod
		used   [2]map[string]string
	}{
		// Conformance: [sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes.
		"terminating": {
			scopes: [2]corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
			hard: [2]map[string]string{
				{"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"},
				{"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"},
			},
			pods: [2]*corev1.Pod{ending(requests(probePod("one", "serve"), amount, limits)), requests(probePod("two", "serve"), amount, limits)},
			used: [2]map[string]string{
				{"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi"},
				{"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi"},
			},
		},
		// Conformance: [sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope.
		"best-effort": {
			scopes: [2]corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
			hard:   [2]map[string]string{{"pods": "5"}, {"pods": "5"}},
			pods:   [2]*corev1.Pod{probePod("one", "serve"), requests(probePod("two", "serve"), amount, limits)},
			used:   [2]map[string]string{{"pods": "1"}, {"pods": "1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			none := [2]map[string]string{{}, {}}
			for i := range 2 {
				s.quota(fmt.Sprint("quota-", i), tc.hard[i], tc.scopes[i])
				for k := range tc.hard[i] {
					none[i][k] = "0"
				}
			}
			for i, p := range tc.pods {
				s.used(fmt.Sprint("quota-", i), none[i])
				s.pod(p)
				s.used(fmt.Sprint("quota-", i), tc.used[i])
				s.used(fmt.Sprint("quota-", 1-i), none[1-i])
				s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))
				s.used(fmt.Sprint("quota-", i), none[i])
			}
		})
	}
}
