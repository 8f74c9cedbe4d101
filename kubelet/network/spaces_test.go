package network

import (
	"context"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

func bindMount(source, target string) error { return unix.Mount(source, target, "", unix.MS_BIND, "") }

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }

// clientNodes is a NodeInformer that has the client's nodes at once.
type clientNodes struct{ client *fake.Clientset }

func (n clientNodes) Informer() cache.SharedIndexInformer { return nil }

func (n clientNodes) Lister() corelisters.NodeLister {
	all := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
	list, err := n.client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	if err == nil { // it is in memory
		for i := range list.Items {
			_ = all.Add(&list.Items[i]) // a node has a name
		}
	}
	return corelisters.NewNodeLister(all)
}
