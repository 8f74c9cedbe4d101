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
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/apiserver/admission"
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
}

// New checks the configuration.
func New(c Config) (*Allocator, error) {
	if len(c.CIDRs) == 0 || len(c.CIDRs) > 2 {
		return nil, fmt.Errorf("service IPs: %d ranges: want one, or one of each family", len(c.CIDRs))
	}
	a := &Allocator{
		cfg: c, services: c.Informers.Core().V1().Services().Lister(), ips: c.Informers.Networking().V1().IPAddresses().Lister(),
		cidrs: c.Informers.Networking().V1().ServiceCIDRs().Lister(),
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
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-gone:
			a.releaseAll(ctx, r, gone)
		case <-tick.C:
			a.repair(ctx)
		}
	}
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
	if old != nil {
		keepAllocated(svc, old)
	}
	if err := a.addresses(ctx, at, svc, old); err != nil {
		return err
	}
	return a.nodePorts(ctx, at, svc, old)
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

func invalid(svc *corev1.Service, err *field.Error) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, field.ErrorList{err})
}

// needsIP: ExternalName has no address, headless has none of its own.
func needsIP(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ClusterIP != corev1.ClusterIPNone
}

func (a *Allocator) addresses(ctx context.Context, at *admission.Attributes, svc, old *corev1.Service) error {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if old == nil || old.Spec.Type != corev1.ServiceTypeExternalName {
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = "", nil, nil, nil
		}
		return nil
	}
	families := a.families(svc)
	if len(families) == 0 {
		return invalid(svc, field.Invalid(field.NewPath("spec", "ipFamilies").Index(0), svc.Spec.IPFamilies, "not configured on this cluster"))
	}
	svc.Spec.IPFamilies = families
	if svc.Spec.IPFamilyPolicy == nil {
		p := corev1.IPFamilyPolicySingleStack
		if len(families) > 1 {
			p = corev1.IPFamilyPolicyRequireDualStack
		}
		svc.Spec.IPFamilyPolicy = &p
	}
	if !needsIP(svc) {
		svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	for i, family := range families {
		if i < len(svc.Spec.ClusterIPs) && svc.Spec.ClusterIPs[i] != "" {
			wanted := svc.Spec.ClusterIPs[i]
			if old != nil && i < len(old.Spec.ClusterIPs) && old.Spec.ClusterIPs[i] == wanted {
				continue
			}
			if err := a.take(ctx, at, svc, wanted); err != nil {
				return err
			}
			continue
		}
		ip, err := a.pick(ctx, at, svc, family)
		if err != nil {
			return err
		}
		if i < len(svc.Spec.ClusterIPs) {
			svc.Spec.ClusterIPs[i] = ip
		} else {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, ip)
		}
	}
	svc.Spec.ClusterIPs = svc.Spec.ClusterIPs[:min(len(svc.Spec.ClusterIPs), len(families))]
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	return nil
}

// families are the families that the Service gets an address of.
func (a *Allocator) families(svc *corev1.Service) []corev1.IPFamily {
	have := make([]corev1.IPFamily, len(a.cfg.CIDRs))
	for i, p := range a.cfg.CIDRs {
		have[i] = familyOf(p.Addr())
	}
	wanted := svc.Spec.IPFamilies
	if len(wanted) == 0 && len(svc.Spec.ClusterIPs) > 0 && svc.Spec.ClusterIPs[0] != corev1.ClusterIPNone {
		if addr, err := netip.ParseAddr(svc.Spec.ClusterIPs[0]); err == nil {
			wanted = []corev1.IPFamily{familyOf(addr)}
		}
	}
	both := false
	if p := svc.Spec.IPFamilyPolicy; p != nil {
		both = *p == corev1.IPFamilyPolicyRequireDualStack || *p == corev1.IPFamilyPolicyPreferDualStack
		if *p == corev1.IPFamilyPolicyRequireDualStack && len(have) < 2 {
			return nil
		}
	}
	var out []corev1.IPFamily
	for _, f := range wanted {
		for _, h := range have {
			if f == h {
				out = append(out, f)
			}
		}
	}
	if len(wanted) > 0 && len(out) == 0 {
		return nil
	}
	if len(out) == 0 {
		out = have[:1:1]
	}
	if both && len(out) == 1 && len(have) == 2 {
		other := have[0]
		if other == out[0] {
			other = have[1]
		}
		out = append(out, other)
	}
	if !both && len(out) > 1 {
		if svc.Spec.IPFamilyPolicy != nil {
			out = out[:1]
		}
	}
	return out
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// take reserves the address that was asked for.
func (a *Allocator) take(ctx context.Context, at *admission.Attributes, svc *corev1.Service, ip string) error {
	path := field.NewPath("spec", "clusterIPs")
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return invalid(svc, field.Invalid(path, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
	}
	if !slices.ContainsFunc(a.ranges(), func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: the provided network does not match the current range", ip)))
	}
	err = a.reserve(ctx, at, svc, addr)
	if apierrors.IsAlreadyExists(err) {
		return invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", ip)))
	}
	return err
}

const (
	managedBy     = "ipaddress.kubernetes.io/managed-by"
	managedByName = "ipallocator.k8s.io"
	familyLabel   = "ipaddress.kubernetes.io/ip-family"
	pickTries     = 64
)

func (a *Allocator) reserve(ctx context.Context, at *admission.Attributes, svc *corev1.Service, addr netip.Addr) error {
	if at.DryRun {
		if _, err := a.ips.Get(addr.String()); err == nil {
			return apierrors.NewAlreadyExists(networkingv1.Resource("ipaddresses"), addr.String())
		}
		return nil
	}
	client := a.cfg.Client.NetworkingV1().IPAddresses()
	obj := addressObject(svc, addr)
	_, err := client.Create(ctx, obj, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) && a.abandoned(ctx, addr.String()) {
		_, err = client.Create(ctx, obj, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	at.Undo = append(at.Undo, func(ctx context.Context) {
		// The repair takes it when this fails.
		_ = client.Delete(context.WithoutCancel(ctx), addr.String(), metav1.DeleteOptions{})
	})
	return nil
}

func addressObject(svc *corev1.Service, addr netip.Addr) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: addr.String(), Labels: map[string]string{managedBy: managedByName, familyLabel: string(familyOf(addr))}},
		Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	}
}

// abandonedAfter is how old an address must be to be taken from a Service that
// does not exist: one that is just being made has its address first.
const abandonedAfter = 5 * time.Second

// abandoned removes an address whose Service is gone, or does not have it, and
// tells whether it did.
func (a *Allocator) abandoned(ctx context.Context, name string) bool {
	client := a.cfg.Client.NetworkingV1().IPAddresses()
	ip, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true
	}
	if err != nil || ip.Spec.ParentRef == nil || ip.Labels[managedBy] != managedByName || time.Since(ip.CreationTimestamp.Time) < abandonedAfter {
		return false
	}
	p := ip.Spec.ParentRef
	if p.Resource != "services" || a.inUse(ctx, name, p.Namespace, p.Name) {
		return false
	}
	err = client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &ip.UID, ResourceVersion: &ip.ResourceVersion}})
	return err == nil || apierrors.IsNotFound(err)
}

// ranges are those that addresses may be taken from: the server's own, which need no
// controller to be ready, and those of ServiceCIDR objects that are; less what is going.
func (a *Allocator) ranges() []netip.Prefix {
	list, err := a.cidrs.List(everything)
	if err != nil {
		return a.cfg.CIDRs
	}
	var out []netip.Prefix
	leaving := map[netip.Prefix]bool{}
	for _, c := range list {
		ready := c.DeletionTimestamp == nil && apimeta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
		for _, text := range c.Spec.CIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				continue
			}
			if ready {
				out = append(out, p.Masked())
			} else if c.DeletionTimestamp != nil {
				leaving[p.Masked()] = true
			}
		}
	}
	for _, p := range a.cfg.CIDRs {
		if !leaving[p.Masked()] {
			out = append(out, p.Masked())
		}
	}
	// The server's own come first, then the largest.
	own := func(p netip.Prefix) bool { return slices.Contains(a.cfg.CIDRs, p) }
	slices.SortStableFunc(out, func(x, y netip.Prefix) int {
		switch {
		case own(x) != own(y):
			if own(x) {
				return -1
			}
			return 1
		case x.Bits() != y.Bits():
			return x.Bits() - y.Bits()
		}
		return x.Addr().Compare(y.Addr())
	})
	return slices.Compact(out)
}

// pick finds a free address in the first range of the family that has one.
func (a *Allocator) pick(ctx context.Context, at *admission.Attributes, svc *corev1.Service, family corev1.IPFamily) (string, error) {
	for _, p := range a.ranges() {
		if familyOf(p.Addr()) != family {
			continue
		}
		ip, err := a.pickIn(ctx, at, svc, p)
		if !errors.Is(err, errFull) {
			return ip, err
		}
	}
	return "", apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: range is full"))
}

// pickIn finds a free address of a range: from a place that the Service's name
// gives, so that two servers do not try the same one after another. The lower part
// of the range is left for addresses that are asked for (KEP-3070).
func (a *Allocator) pickIn(ctx context.Context, at *admission.Attributes, svc *corev1.Service, cidr netip.Prefix) (string, error) {
	size, offset := span(cidr)
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s/%s/%d", svc.Namespace, svc.Name, svc.GenerateName, time.Now().UnixNano())
	start := h.Sum64()
	try := func(from, count uint64) (string, error) {
		for i := range min(count, pickTries*16) {
			addr := nth(cidr, 1+from+(start+i)%count)
			if _, err := a.ips.Get(addr.String()); err == nil {
				continue
			}
			err := a.reserve(ctx, at, svc, addr)
			if apierrors.IsAlreadyExists(err) {
				continue
			}
			return addr.String(), err
		}
		return "", errFull
	}
	ip, err := try(offset, size-offset)
	if errors.Is(err, errFull) && offset > 0 {
		ip, err = try(0, offset)
	}
	return ip, err
}

var errFull = errors.New("range is full")

// span is how many addresses the range has for Services, and how many of the
// first are left for those that are asked for: min(max(16, size/16), 256).
func span(p netip.Prefix) (size, offset uint64) {
	bits := p.Addr().BitLen() - p.Bits()
	size = uint64(1) << min(bits, 62)
	if p.Addr().Is4() && size > 2 {
		size -= 2 // the network and broadcast addresses
	} else if size > 1 {
		size--
	}
	if size < 16 {
		return size, 0
	}
	return size, min(max(16, size/16), 256)
}

func nth(p netip.Prefix, n uint64) netip.Addr {
	b := new(big.Int).SetBytes(p.Addr().AsSlice())
	b.Add(b, new(big.Int).SetUint64(n))
	raw := b.FillBytes(make([]byte, p.Addr().BitLen()/8))
	a, _ := netip.AddrFromSlice(raw) // the length is an address's
	return a
}
