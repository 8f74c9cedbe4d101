// Package serviceip gives Services their cluster IPs and node ports. Each
// address is an IPAddress object, and the node ports are bits of one object that is
// changed by compare-and-swap, so that all API servers share the books. Both are
// repaired from the Services now and then.
//
// The Allocator stands last in the admission chain: it sees the Service as it
// will be stored, and gives back what it took when the write does not happen.
package serviceip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/apiserver/admission"
	"skiff/apiserver/resources"
	"skiff/apiserver/resources/core"
	"skiff/kine"
)

const repairEvery = 3 * time.Minute

// Config of an Allocator.
type Config struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory
	// Store has the book of node ports.
	Store kine.Store
	// CIDRs are the ranges that the server was started with, the primary family
	// first. ServiceCIDR objects may add others of their families.
	CIDRs []netip.Prefix
	// MinPort and MaxPort bound node ports.
	MinPort, MaxPort int
}

// Allocator is the admission plugin.
type Allocator struct {
	cfg      Config
	services corev1listers.ServiceLister
	ips      networkinglisters.IPAddressLister
	cidrs    networkinglisters.ServiceCIDRLister
	book     *book
	// rules are those of services.
	rules resources.Strategy
}

// New checks the configuration.
func New(c Config) (*Allocator, error) {
	if len(c.CIDRs) == 0 || len(c.CIDRs) > 2 {
		return nil, fmt.Errorf("service IPs: %d ranges: want one, or one of each family", len(c.CIDRs))
	}
	a := &Allocator{
		cfg: c, services: c.Informers.Core().V1().Services().Lister(), ips: c.Informers.Networking().V1().IPAddresses().Lister(),
		cidrs: c.Informers.Networking().V1().ServiceCIDRs().Lister(),
		rules: core.Services().Strategy,
	}
	a.book = &book{store: c.Store, min: c.MinPort, max: c.MaxPort, now: time.Now, used: a.usedPorts}
	return a, nil
}

// Name of the plugin.
func (*Allocator) Name() string { return "ServiceIPAllocator" }

// Handles writes of Services.
func (*Allocator) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Run gives back what Services no longer have, and repairs the books now and
// then, until ctx ends.
func (a *Allocator) Run(ctx context.Context) error {
	gone := make(chan release, releaseQueue)
	informer := a.cfg.Informers.Core().V1().Services().Informer()
	reg, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(old, obj any) { a.changed(gone, old, obj) },
		DeleteFunc: func(obj any) {
			if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = t.Obj
			}
			a.changed(gone, obj, nil)
		},
	})
	if err != nil {
		return fmt.Errorf("service IPs: %w", err)
	}
	defer func() { _ = informer.RemoveEventHandler(reg) }() // it ends with the informer at the latest
	lost := make(chan struct{}, 1)
	addresses := a.cfg.Informers.Networking().V1().IPAddresses().Informer()
	held, err := addresses.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if a.missed(obj) {
			select {
			case lost <- struct{}{}:
			default: // the repair that is due sees to this one too
			}
		}
	}})
	if err != nil {
		return fmt.Errorf("service IPs: %w", err)
	}
	defer func() { _ = addresses.RemoveEventHandler(held) }() // as above
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-gone:
			a.releaseAll(ctx, r, gone)
		case <-lost:
			a.repair(ctx)
		case <-tick.C:
			a.repair(ctx)
		}
	}
}

// missed tells whether a Service still has the address whose object went: until it
// is booked again another Service could take it.
func (a *Allocator) missed(obj any) bool {
	if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = t.Obj
	}
	ip, ok := obj.(*networkingv1.IPAddress)
	if !ok || ip.Spec.ParentRef == nil {
		return false
	}
	svc, err := a.services.Services(ip.Spec.ParentRef.Namespace).Get(ip.Spec.ParentRef.Name)
	return err == nil && slices.Contains(svc.Spec.ClusterIPs, ip.Name)
}

// releaseQueue bounds the releases that wait; what does not fit is left to the repair.
const releaseQueue = 1024

// release is an address or a port that a Service had, and no longer has as of revision.
type release struct {
	ip, namespace, name string
	port                int32
	revision            int64
}

// changed queues what the old form of a Service had and the new one, if any, has not.
func (a *Allocator) changed(gone chan<- release, before, after any) {
	old, ok := before.(*corev1.Service)
	if !ok {
		return
	}
	// An informer gives a deleted object with the revision of its end.
	svc, _ := after.(*corev1.Service)
	last := old
	if svc != nil {
		last = svc
	}
	revision, _ := strconv.ParseInt(last.ResourceVersion, 10, 64) // 0 leaves recent grants to the repair
	queue := func(r release) {
		select {
		case gone <- r:
		default: // the repair finds it
		}
	}
	keep := numbers(svc)
	for n := range numbers(old) {
		if !keep[n] {
			queue(release{port: n, revision: revision})
		}
	}
	for _, ip := range old.Spec.ClusterIPs {
		if ip == "" || ip == corev1.ClusterIPNone || svc != nil && slices.Contains(svc.Spec.ClusterIPs, ip) {
			continue
		}
		queue(release{ip: ip, namespace: old.Namespace, name: old.Name})
	}
}

// releaseAll releases r and what waits behind it. Ports go together: each release
// of ports lists the Services once.
func (a *Allocator) releaseAll(ctx context.Context, r release, more <-chan release) {
	var ports []portRelease
	for {
		if r.port != 0 {
			ports = append(ports, portRelease{r.port, r.revision})
		} else {
			a.release(ctx, r)
		}
		select {
		case r = <-more:
			continue
		default:
		}
		break
	}
	_ = a.book.release(ctx, ports) // the repair takes them when this fails
}

// release deletes the address's object unless a Service has it again.
func (a *Allocator) release(ctx context.Context, r release) {
	if a.inUse(ctx, r.ip, r.namespace, r.name) {
		return
	}
	client := a.cfg.Client.NetworkingV1().IPAddresses()
	ip, err := client.Get(ctx, r.ip, metav1.GetOptions{})
	if err != nil || !belongsTo(ip, r.namespace, r.name) {
		return
	}
	// The repair takes it when this fails.
	_ = client.Delete(ctx, r.ip, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &ip.UID, ResourceVersion: &ip.ResourceVersion}})
}

func belongsTo(ip *networkingv1.IPAddress, namespace, name string) bool {
	p := ip.Spec.ParentRef
	return p != nil && p.Group == "" && p.Resource == "services" && p.Namespace == namespace && p.Name == name
}

// inUse asks the server, not the cache, whether the Service has the address.
func (a *Allocator) inUse(ctx context.Context, ip, namespace, name string) bool {
	svc, err := a.cfg.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return !apierrors.IsNotFound(err)
	}
	return slices.Contains(svc.Spec.ClusterIPs, ip)
}

// repair makes both books say what Services have.
func (a *Allocator) repair(ctx context.Context) {
	_ = a.book.repair(ctx) // the next repair tries again, as for all below
	list, err := a.services.List(everything)
	if err != nil {
		return
	}
	held := map[string]*corev1.Service{}
	for _, s := range list {
		for _, ip := range s.Spec.ClusterIPs {
			if ip != "" && ip != corev1.ClusterIPNone {
				held[ip] = s
			}
		}
	}
	ips, err := a.ips.List(everything)
	if err != nil {
		return
	}
	client := a.cfg.Client.NetworkingV1().IPAddresses()
	for _, ip := range ips {
		if held[ip.Name] == nil && time.Since(ip.CreationTimestamp.Time) > time.Minute && ip.Labels[managedBy] == managedByName {
			p := ip.Spec.ParentRef
			if p == nil || !a.inUse(ctx, ip.Name, p.Namespace, p.Name) {
				_ = client.Delete(ctx, ip.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &ip.UID, ResourceVersion: &ip.ResourceVersion}})
			}
		}
		delete(held, ip.Name)
	}
	for text, svc := range held {
		if addr, err := netip.ParseAddr(text); err == nil && a.inUse(ctx, text, svc.Namespace, svc.Name) {
			_, _ = client.Create(ctx, addressObject(svc, addr), metav1.CreateOptions{})
		}
	}
}

// Admit fills addresses and ports.
func (a *Allocator) Admit(ctx context.Context, at *admission.Attributes) error {
	if at.GroupResource() != corev1.Resource("services") || at.Subresource != "" {
		return nil
	}
	svc, ok := at.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	old, _ := at.OldObject.(*corev1.Service)
	if a.refused(ctx, svc, old) {
		return nil // validation says why
	}
	if old != nil {
		keepAllocated(svc, old)
	}
	if err := a.addresses(ctx, at, svc, old); err != nil {
		return err
	}
	return a.nodePorts(ctx, at, svc, old)
}

// refused tells whether a service will not be stored, whatever is allocated for it.
func (a *Allocator) refused(ctx context.Context, svc, old *corev1.Service) bool {
	svc = svc.DeepCopy()
	if old == nil {
		a.rules.PrepareForCreate(ctx, svc)
		return len(a.rules.Validate(ctx, svc)) > 0
	}
	a.rules.PrepareForUpdate(ctx, svc, old)
	return len(a.rules.ValidateUpdate(ctx, svc, old)) > 0
}

// keepAllocated fills what an updater left out with what the Service has, so
// that nothing new is taken for it.
func keepAllocated(svc, old *corev1.Service) {
	external := corev1.ServiceTypeExternalName
	if svc.Spec.Type == external || old.Spec.Type == external {
		return
	}
	s, o := &svc.Spec, &old.Spec
	if s.ClusterIP == "" && len(s.ClusterIPs) == 0 {
		s.ClusterIP = o.ClusterIP
	}
	if s.ClusterIP == o.ClusterIP && len(s.ClusterIPs) == 0 {
		s.ClusterIPs = slices.Clone(o.ClusterIPs)
	}
	if len(s.IPFamilies) == 0 {
		s.IPFamilies = slices.Clone(o.IPFamilies)
	}
	if s.IPFamilyPolicy == nil && o.IPFamilyPolicy != nil {
		p := *o.IPFamilyPolicy
		s.IPFamilyPolicy = &p
	}
	if !needsPorts(svc) || !needsPorts(old) {
		return
	}
	taken := portsOf(svc)
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, q := range o.Ports {
			if p.NodePort == 0 && q.Protocol == p.Protocol && q.Port == p.Port && !taken[portKey{q.Protocol, q.NodePort}] {
				p.NodePort = q.NodePort
			}
		}
	}
	if needsHealthPort(svc) && needsHealthPort(old) && s.HealthCheckNodePort == 0 {
		s.HealthCheckNodePort = o.HealthCheckNodePort
	}
}

func invalid(svc *corev1.Service, errs ...*field.Error) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, errs)
}

// needsIP: ExternalName has no address, headless has none of its own.
func needsIP(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ClusterIP != corev1.ClusterIPNone
}

const (
	managedBy     = "ipaddress.kubernetes.io/managed-by"
	managedByName = "ipallocator.k8s.io"
	familyLabel   = "ipaddress.kubernetes.io/ip-family"
	pickTries     = 64
)
