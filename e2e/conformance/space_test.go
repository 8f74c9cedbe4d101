package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// space is a namespace of one test and the administrator's clients.
type space struct {
	t       *testing.T
	ctx     context.Context
	name    string
	config  *rest.Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
}

// parallel makes a namespace for a test that runs beside others.
func parallel(t *testing.T) *space {
	t.Helper()
	t.Parallel()
	return alone(t)
}

// alone makes a namespace for a test that changes what others see, such as a
// node's taints, and so runs before those that run side by side.
func alone(t *testing.T) *space {
	t.Helper()
	if shared == nil {
		t.Skip(why)
	}
	config, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = 200, 400
	// As Kubernetes' own tests ask; the dynamic client asks for JSON.
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	s := &space{t: t, config: config}
	// Not t.Context: it ends before the clean-up.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	s.ctx = ctx
	typed := rest.CopyConfig(config) // speaks as the controllers of the world do
	typed.AcceptContentTypes, typed.ContentType = runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON, runtime.ContentTypeProtobuf
	if s.client, err = kubernetes.NewForConfig(typed); err != nil {
		t.Fatal(err)
	}
	if s.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	name := strings.Trim(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "/")
	name = strings.NewReplacer("/", "-", "_", "-").Replace(name)
	ns, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: name[:min(len(name), 40)] + "-",
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.name = ns.Name
	s.eventually(30*time.Second, "the default service account", func() error {
		_, err := s.client.CoreV1().ServiceAccounts(s.name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	t.Cleanup(func() {
		defer cancel()
		if t.Failed() {
			s.explain()
		}
		if err := s.client.CoreV1().Namespaces().Delete(context.Background(), s.name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	return s
}

// must ends the test at an error of a step that is not what the test is about.
func (s *space) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually asks until check is content.
func (s *space) eventually(limit time.Duration, what string, check func() error) {
	s.t.Helper()
	end := time.After(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-end:
			s.t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// holds asks for a while in which something could go wrong, and must not.
func (s *space) holds(d time.Duration, what string, check func() error) {
	s.t.Helper()
	end := time.After(d)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := check(); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-end:
			return
		case <-tick.C:
		}
	}
}

// explain logs what a person would look at after a failure.
func (s *space) explain() {
	pods, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.t.Log(err)
		return
	}
	for _, p := range pods.Items {
		s.t.Logf("pod %s on %s: %s, %+v", p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.ContainerStatuses)
	}
	events, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.t.Log(err)
		return
	}
	var b strings.Builder
	for _, e := range events.Items {
		fmt.Fprintf(&b, "%s %s/%s %s: %s\n", e.Type, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
	}
	s.t.Log("events:\n" + b.String())
}
