package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"skiff/kubelet/statefile"
)

// Guard has the rules for the addresses that a pod of this node has just got written
// before it returns, so that its containers never run unguarded. The API server tells
// of the addresses only later.
func (e *Enforcer) Guard(ctx context.Context, p *v1.Pod, ips []string) error {
	if p.Spec.HostNetwork || len(ips) == 0 {
		return nil
	}
	if err := errors.Join(e.early.load(), e.early.add(p, ips)); err != nil {
		return fmt.Errorf("network policy: the addresses of pod %s/%s cannot be kept: %w", p.Namespace, p.Name, err)
	}
	written := make(chan error, 1)
	select {
	case e.urgent <- written:
	case <-ctx.Done():
		return fmt.Errorf("network policy: the rules of pod %s/%s are not written yet: %w", p.Namespace, p.Name, ctx.Err())
	}
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("network policy: the rules of pod %s/%s are not written yet: %w", p.Namespace, p.Name, ctx.Err())
	}
}

// early are the pods of this node whose addresses the API does not tell of yet. The
// key is the name: a static pod's mirror has another UID.
type early struct {
	file   string // where they are kept; empty for nowhere
	mu     sync.Mutex
	pods   map[types.NamespacedName]*v1.Pod // guarded by mu
	loaded bool                             // guarded by mu
	// before are those of the process before: of a pod that the API has no more
	// nothing else is known.
	before map[types.NamespacedName]bool // guarded by mu
}

// kept is a pod's entry in the file.
type kept struct {
	Namespace, Name string
	UID             types.UID
	IPs             []string
}

// load takes up once what a process before has kept: pods that run since then, and
// whose addresses it may have had no time to tell the API of. It comes before the file
// is written again.
func (e *early) load() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == "" || e.loaded {
		return nil
	}
	e.loaded = true
	data, err := statefile.Read(e.file)
	if err != nil || data == nil {
		return err
	}
	var list []kept
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("%s: %w", e.file, err)
	}
	for _, k := range list {
		p := at(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name, UID: k.UID}}, k.IPs)
		if len(k.IPs) == 0 {
			continue
		}
		e.pods[nameOf(p)], e.before[nameOf(p)] = p, true
	}
	return nil
}

func (e *early) save() error {
	if e.file == "" {
		return nil
	}
	list := make([]kept, 0, len(e.pods))
	for _, p := range e.pods {
		list = append(list, kept{p.Namespace, p.Name, p.UID, texts(p)})
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return statefile.Write(e.file, data)
}

func (e *early) add(p *v1.Pod, ips []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, other := range e.pods {
		if slices.ContainsFunc(ips, func(ip string) bool { return has(other, ip) }) {
			delete(e.pods, name) // it had the address before
		}
	}
	e.pods[nameOf(p)] = at(p, ips)
	delete(e.before, nameOf(p))
	return e.save()
}

// forget is called for pods that the API server has no more.
func (e *early) forget(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	p, ok := obj.(*v1.Pod)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.pods[nameOf(p)]; ok && same(known, p) {
		delete(e.pods, nameOf(p))
	}
}

// merge is what the API tells, with the addresses that it does not tell of yet.
func (e *early) merge(told []*v1.Pod) []*v1.Pod {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.pods) == 0 {
		return told
	}
	out := make([]*v1.Pod, 0, len(told)+len(e.pods))
	seen := make(map[types.NamespacedName]bool)
	for _, p := range told {
		name := nameOf(p)
		if known, ok := e.pods[name]; ok && same(known, p) {
			over := p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed
			if over || tells(p, known) {
				delete(e.pods, name)
			} else {
				p, seen[name] = at(p, texts(known)), true
			}
		}
		out = append(out, p)
	}
	for name, p := range e.pods {
		switch {
		case seen[name]:
		case e.before[name]:
			delete(e.pods, name)
			delete(e.before, name)
		default:
			out = append(out, p)
		}
	}
	return out
}

// at is a pod with other addresses.
func at(p *v1.Pod, ips []string) *v1.Pod {
	out := *p
	out.Status.PodIP, out.Status.PodIPs = ips[0], nil
	for _, ip := range ips {
		out.Status.PodIPs = append(out.Status.PodIPs, v1.PodIP{IP: ip})
	}
	return &out
}

func nameOf(p *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// same tells whether the API's pod is the one that the node knows.
func same(known, told *v1.Pod) bool {
	_, mirror := told.Annotations[v1.MirrorPodAnnotationKey]
	return known.UID == told.UID || mirror
}

// tells says whether the API tells of all of a pod's addresses.
func tells(told, known *v1.Pod) bool {
	return !slices.ContainsFunc(texts(known), func(ip string) bool { return !has(told, ip) })
}

func has(p *v1.Pod, ip string) bool {
	want, err := netip.ParseAddr(ip)
	return err == nil && slices.Contains(addresses(p), want.Unmap())
}

func texts(p *v1.Pod) []string {
	out := make([]string, len(p.Status.PodIPs))
	for i, ip := range p.Status.PodIPs {
		out[i] = ip.IP
	}
	return out
}
