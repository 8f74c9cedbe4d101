package conformance

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeStatus is the status of a container of any kind, nil where there is none.
func nodeStatus(p *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == container {
				return &list[i]
			}
		}
	}
	return nil
}

// nodeCondition is a condition's status, empty where the pod has none of that type.
func nodeCondition(p *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

// nodeEnds makes a pod and waits until it ended in a phase.
func nodeEnds(s *space, p *corev1.Pod, phase corev1.PodPhase) *corev1.Pod {
	s.t.Helper()
	s.pod(p)
	end := s.podIs(p.Name, "at its end", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	if end.Status.Phase != phase {
		s.t.Fatalf("pod %s is %s, want %s: %+v", p.Name, end.Status.Phase, phase, end.Status.ContainerStatuses)
	}
	return end
}

// nodeRemove deletes a pod and waits until it is gone.
func nodeRemove(s *space, name string) {
	s.t.Helper()
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, name, metav1.DeleteOptions{}))
	s.eventually(60*time.Second, "the end of pod "+name, func() error {
		_, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	})
}

// nodeUpdate changes a pod with an update, again after each conflict.
func nodeUpdate(s *space, name string, change func(*corev1.Pod)) *corev1.Pod {
	s.t.Helper()
	for range 50 {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		s.must(err)
		change(p)
		out, err := s.client.CoreV1().Pods(s.name).Update(s.ctx, p, metav1.UpdateOptions{})
		if err == nil {
			return out
		}
		if !apierrors.IsConflict(err) {
			s.t.Fatal(err)
		}
	}
	s.t.Fatalf("pod %s: each of 50 updates met a conflict", name)
	return nil
}

// nodeStays fails where check does during a time.
func nodeStays(s *space, d time.Duration, check func(*corev1.Pod) error, name string) {
	s.t.Helper()
	end := time.After(d)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		s.must(err)
		if err := check(p); err != nil {
			s.t.Fatalf("pod %s: %v", name, err)
		}
		select {
		case <-end:
			return
		case <-tick.C:
		}
	}
}

// nodeHasEvent waits for an event about an object whose message begins so.
func nodeHasEvent(s *space, object, reason, message string) {
	s.t.Helper()
	s.eventually(60*time.Second, "event "+reason+" about "+object, func() error {
		list, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + object + ",reason=" + reason})
		if err != nil {
			return err
		}
		var others []string
		for _, e := range list.Items {
			if strings.HasPrefix(e.Message, message) {
				return nil
			}
			others = append(others, e.Message)
		}
		return fmt.Errorf("want %q, have %q", message, others)
	})
}
