package serviceip

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/admission"
)

func (a *Allocator) addresses(ctx context.Context, at *admission.Attributes, svc, old *corev1.Service) error {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if old == nil || old.Spec.Type != corev1.ServiceTypeExternalName {
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = "", nil, nil, nil
		}
		return nil
	}
	if errs := a.families(svc, old); len(errs) > 0 {
		return invalid(svc, errs...)
	}
	if !needsIP(svc) {
		svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	for i, family := range svc.Spec.IPFamilies {
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
	svc.Spec.ClusterIPs = svc.Spec.ClusterIPs[:min(len(svc.Spec.ClusterIPs), len(svc.Spec.IPFamilies))]
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	return nil
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
