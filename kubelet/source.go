package kubelet

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// buildSources makes the watches of the node's pods, of the node and of
// services.
func (k *Kubelet) buildSources() (podInformer, nodeInformer cache.SharedIndexInformer) {
	pods := k.cfg.Client.CoreV1().Pods(metav1.NamespaceAll)
	mine := fields.OneTermEqualSelector("spec.nodeName", k.cfg.NodeName).String()
	podInformer = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = mine
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = mine
			return pods.Watch(ctx, o)
		},
	}, k.cfg.Client), &v1.Pod{}, 0, cache.Indexers{})
	nodes := k.cfg.Client.CoreV1().Nodes()
	self := fields.OneTermEqualSelector("metadata.name", k.cfg.NodeName).String()
	nodeInformer = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = self
			return nodes.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = self
			return nodes.Watch(ctx, o)
		},
	}, k.cfg.Client), &v1.Node{}, 0, cache.Indexers{})
	return podInformer, nodeInformer
}

// runSources feeds pods to the workers until the context ends.
func (k *Kubelet) runSources(ctx context.Context) error {
	podInformer, nodeInformer := k.buildSources()
	handled, err := podInformer.AddEventHandler(k.podHandler())
	if err != nil {
		return err
	}
	observe := func(obj any) {
		if node, ok := obj.(*v1.Node); ok && node.Name == k.cfg.NodeName {
			k.node.Observe(node)
		}
	}
	if _, err := nodeInformer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: observe, UpdateFunc: func(_, now any) { observe(now) }, DeleteFunc: func(any) { k.node.Poke() }}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { podInformer.RunWithContext(ctx) })
	wg.Go(func() { nodeInformer.RunWithContext(ctx) })
	k.factory.StartWithContext(ctx)
	defer k.factory.Shutdown()
	static, answered := k.watchStatic(ctx, &wg), k.watchStaticURL(ctx, &wg)
	// The handler's own sync: the informer's comes before the handler has seen
	// every pod, and a pod that it has not seen would be ended.
	if !cache.WaitForCacheSync(ctx.Done(), handled.HasSynced) {
		return nil
	}
	select {
	case <-static:
	case <-ctx.Done():
		return nil
	}
	wg.Go(func() {
		// Until then nobody knows which pods the URL has.
		select {
		case <-answered:
		case <-ctx.Done():
			return
		}
		k.mu.Lock()
		k.sourcesReady = true
		k.mu.Unlock()
	})
	k.announce(ctx)
	<-ctx.Done()
	return nil
}

// announce closes ready once the node is registered.
func (k *Kubelet) announce(ctx context.Context) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for k.node.Node() == nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	close(k.ready)
}

func (k *Kubelet) podHandler() cache.ResourceEventHandler {
	add := func(obj any) {
		pod, ok := obj.(*v1.Pod)
		if !ok {
			return
		}
		if _, mirror := pod.Annotations[v1.MirrorPodAnnotationKey]; mirror {
			k.setMirror(pod)
			return
		}
		k.setPod(pod, false)
	}
	remove := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		pod, ok := obj.(*v1.Pod)
		if !ok {
			return
		}
		if _, mirror := pod.Annotations[v1.MirrorPodAnnotationKey]; mirror {
			k.removeMirror(pod)
			return
		}
		k.removePod(pod.UID, pod)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if pod, ok := obj.(*v1.Pod); ok {
				k.counts.Seen(pod)
			}
			add(obj)
		},
		UpdateFunc: func(before, now any) {
			old, ok := before.(*v1.Pod)
			if next, ok2 := now.(*v1.Pod); ok && ok2 && old.UID != next.UID {
				// Deleted and made again between two looks.
				remove(old)
			} else if ok2 {
				k.counts.Observed(next, time.Now())
			}
			add(now)
		},
		DeleteFunc: remove,
	}
}

// buildFactory makes the informers that containers' environments and volumes
// need.
func (k *Kubelet) buildFactory() error {
	k.factory = informers.NewSharedInformerFactory(k.cfg.Client, 0)
	services := k.factory.Core().V1().Services()
	k.services = services.Lister()
	k.synced = append(k.synced, services.Informer().HasSynced)
	return nil
}
