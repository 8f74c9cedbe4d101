package serviceaccount

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// cachedGetter looks in the informers first and asks the server for what they
// do not have yet: a token may be used before its objects reach the cache.
type cachedGetter struct {
	client   kubernetes.Interface
	accounts corelisters.ServiceAccountLister
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
}

// NewGetter reads service accounts, pods and nodes through the factory's
// caches. Secrets are always read from the server, so that no cache of them is needed.
func NewGetter(client kubernetes.Interface, f informers.SharedInformerFactory) Getter {
	c := f.Core().V1()
	return &cachedGetter{client: client, accounts: c.ServiceAccounts().Lister(), pods: c.Pods().Lister(), nodes: c.Nodes().Lister()}
}

func (g *cachedGetter) ServiceAccount(ctx context.Context, ns, name string) (*corev1.ServiceAccount, error) {
	if sa, err := g.accounts.ServiceAccounts(ns).Get(name); err == nil {
		return sa, nil
	}
	return g.client.CoreV1().ServiceAccounts(ns).Get(ctx, name, metav1.GetOptions{})
}

func (g *cachedGetter) Pod(ctx context.Context, ns, name string) (*corev1.Pod, error) {
	if p, err := g.pods.Pods(ns).Get(name); err == nil {
		return p, nil
	}
	return g.client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
}

func (g *cachedGetter) Secret(ctx context.Context, ns, name string) (*corev1.Secret, error) {
	return g.client.CoreV1().Secrets(ns).Get(ctx, name, metav1.GetOptions{})
}

func (g *cachedGetter) Node(ctx context.Context, name string) (*corev1.Node, error) {
	if n, err := g.nodes.Get(name); err == nil {
		return n, nil
	}
	return g.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
}
