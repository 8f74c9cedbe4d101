package metricsapi

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"skiff/apiserver/handlers"
)

// Config of the answers.
type Config struct {
	Nodes corelisters.NodeLister
	Pods  corelisters.PodLister
	// Summary reads a kubelet's /stats/summary.
	Summary func(ctx context.Context, node string) (*statsv1.Summary, error)
	API     *handlers.API
}

// New is the connector of the group's resources.
func New(c Config) handlers.Connector {
	s := &server{Config: c, cache: newCache(c.Summary)}
	return func(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
		var err error
		if t.Resource.Namespaced {
			err = s.pods(w, r, t)
		} else {
			err = s.nodes(w, r, t)
		}
		if err != nil {
			handlers.WriteError(w, r, err)
		}
	}
}

type server struct {
	Config
	cache *cache
}

func selector(r *http.Request) (labels.Selector, error) {
	sel, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return sel, nil
}

func (s *server) nodes(w http.ResponseWriter, r *http.Request, t *handlers.Target) error {
	if t.Name != "" {
		n, err := s.Nodes.Get(t.Name)
		if err != nil {
			return apierrors.NewNotFound(t.GR(), t.Name)
		}
		got := s.cache.read(r.Context(), []string{n.Name})
		m := nodeMetrics(n, got[n.Name])
		if m == nil {
			return apierrors.NewNotFound(t.GR(), t.Name)
		}
		s.API.WriteKind(w, r, http.StatusOK, t.GVK(), m)
		return nil
	}
	sel, err := selector(r)
	if err != nil {
		return err
	}
	list, err := s.Nodes.List(sel)
	if err != nil {
		return err
	}
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	got := s.cache.read(r.Context(), names)
	out := &metricsv1beta1.NodeMetricsList{Items: []metricsv1beta1.NodeMetrics{}}
	for _, n := range list {
		if m := nodeMetrics(n, got[n.Name]); m != nil {
			out.Items = append(out.Items, *m)
		}
	}
	gvk := t.GVK()
	gvk.Kind = t.Resource.ListKind
	s.API.WriteKind(w, r, http.StatusOK, gvk, out)
	return nil
}

func (s *server) pods(w http.ResponseWriter, r *http.Request, t *handlers.Target) error {
	if t.Name != "" {
		p, err := s.Pods.Pods(t.Namespace).Get(t.Name)
		if err != nil {
			return apierrors.NewNotFound(t.GR(), t.Namespace+"/"+t.Name)
		}
		m := podMetrics(p, s.cache.read(r.Context(), []string{p.Spec.NodeName})[p.Spec.NodeName])
		if m == nil {
			return apierrors.NewNotFound(t.GR(), t.Namespace+"/"+t.Name)
		}
		s.API.WriteKind(w, r, http.StatusOK, t.GVK(), m)
		return nil
	}
	sel, err := selector(r)
	if err != nil {
		return err
	}
	var list []*corev1.Pod
	if t.Namespace == "" {
		list, err = s.Pods.List(sel)
	} else {
		list, err = s.Pods.Pods(t.Namespace).List(sel)
	}
	if err != nil {
		return err
	}
	want, names := map[string]bool{}, []string{}
	for _, p := range list {
		if n := p.Spec.NodeName; n != "" && !want[n] {
			want[n] = true
			names = append(names, n)
		}
	}
	got := s.cache.read(r.Context(), names)
	out := &metricsv1beta1.PodMetricsList{Items: []metricsv1beta1.PodMetrics{}}
	for _, p := range list {
		if m := podMetrics(p, got[p.Spec.NodeName]); m != nil {
			out.Items = append(out.Items, *m)
		}
	}
	gvk := t.GVK()
	gvk.Kind = t.Resource.ListKind
	s.API.WriteKind(w, r, http.StatusOK, gvk, out)
	return nil
}

// Text of an error that names the node.
func unreachable(node string, err error) error {
	return fmt.Errorf("node %s: its kubelet's statistics cannot be read: %w", node, err)
}

func metaOf(o metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), CreationTimestamp: metav1.Now()}
}
