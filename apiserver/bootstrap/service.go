package bootstrap

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// A server that has not renewed its Lease for so long no longer counts.
const (
	identityLabel = "apiserver.kubernetes.io/identity"
	leaseSeconds  = 15
	renewEvery    = 10 * time.Second
	serviceName   = "kubernetes"
	portName      = "https"
)

// first is the first address of a range.
func first(p netip.Prefix) string { return p.Masked().Addr().Next().String() }

// kubernetesService makes the Service by which pods reach the API. A server at a
// loopback address makes it too, and is not behind it.
func kubernetesService(ctx context.Context, c Config) error {
	if !c.Address.IsValid() {
		return nil
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName, Namespace: "default", Labels: map[string]string{"provider": "kubernetes", "component": "apiserver"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: first(c.ServiceCIDRs[0]), Type: corev1.ServiceTypeClusterIP, SessionAffinity: corev1.ServiceAffinityNone,
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
			Ports:          []corev1.ServicePort{{Name: portName, Port: 443, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(int32(c.Port))}},
		},
	}
	// It is looked for first: its address is taken once it exists.
	client := c.Client.CoreV1().Services("default")
	_, err := client.Get(ctx, serviceName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		err = makeOne(ctx, client, svc, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("service default/kubernetes: %w", err)
	}
	return renew(ctx, c)
}

// keep renews this server's Lease and the Service's endpoints until ctx ends,
// then takes this server off them. It makes the Service again where somebody has
// deleted it, as with all of a namespace.
func keep(ctx context.Context, c Config) error {
	if !c.Address.IsValid() {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := kubernetesService(ctx, c); err != nil && ctx.Err() == nil {
				c.Log.Warn("the API server's own Service and endpoints could not be renewed; they are tried again", "err", err)
			}
		}
	}
}

// identity names this server: its address, which no other has.
func identity(c Config) string { return "apiserver-" + c.Address.String() }

func renew(ctx context.Context, c Config) error {
	now := metav1.NowMicro()
	client := c.Client.CoordinationV1().Leases("kube-system")
	name := leaseName(c)
	host, _ := os.Hostname() // only a label for people
	lease, err := client.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system", Labels: map[string]string{identityLabel: "kube-apiserver", corev1.LabelHostname: host},
				Annotations: map[string]string{addressAnnotation: netip.AddrPortFrom(c.Address, uint16(c.Port)).String()}},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To(identity(c)), LeaseDurationSeconds: ptr.To[int32](leaseSeconds), AcquireTime: &now, RenewTime: &now},
		}, metav1.CreateOptions{})
	case err == nil:
		lease.Spec.RenewTime = &now
		lease.Spec.HolderIdentity = ptr.To(identity(c))
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, addressAnnotation, netip.AddrPortFrom(c.Address, uint16(c.Port)).String())
		_, err = client.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("identity lease: %w", err)
	}
	list, err := client.List(ctx, metav1.ListOptions{LabelSelector: identityLabel + "=kube-apiserver"})
	if err != nil {
		return fmt.Errorf("identity leases: %w", err)
	}
	servers := alive(list.Items, now.Time)
	if err := endpoints(ctx, c, servers); err != nil {
		return err
	}
	return endpointSlice(ctx, c, servers)
}

// addressAnnotation tells the other servers where this one is reached.
const addressAnnotation = "skiff.io/apiserver-address"

func leaseName(c Config) string {
	return "apiserver-" + hashed(c.Address.String())
}

// alive are the addresses of the servers whose Lease is fresh, in order. One that
// only its own machine reaches is no endpoint.
func alive(leases []coordinationv1.Lease, now time.Time) []netip.AddrPort {
	var out []netip.AddrPort
	for i := range leases {
		l := &leases[i]
		a, err := netip.ParseAddrPort(l.Annotations[addressAnnotation])
		if err != nil || a.Addr().IsLoopback() || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
			continue
		}
		if now.Sub(l.Spec.RenewTime.Time) <= time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

func endpoints(ctx context.Context, c Config, servers []netip.AddrPort) error {
	client := c.Client.CoreV1().Endpoints("default") //nolint:staticcheck // clients still read them
	want := subsets(servers)
	have, err := client.Get(ctx, serviceName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, &corev1.Endpoints{ //nolint:staticcheck // as above
			ObjectMeta: metav1.ObjectMeta{Name: serviceName, Namespace: "default", Labels: map[string]string{"endpointslice.kubernetes.io/skip-mirror": "true"}},
			Subsets:    want,
		}, metav1.CreateOptions{})
	case err == nil && !equality.Semantic.DeepEqual(have.Subsets, want):
		have.Subsets = want
		_, err = client.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("endpoints of default/kubernetes: %w", err)
	}
	return nil
}

func subsets(servers []netip.AddrPort) []corev1.EndpointSubset { //nolint:staticcheck // as above
	byPort := map[uint16][]corev1.EndpointAddress{} //nolint:staticcheck // as above
	var ports []uint16
	for _, s := range servers {
		if byPort[s.Port()] == nil {
			ports = append(ports, s.Port())
		}
		byPort[s.Port()] = append(byPort[s.Port()], corev1.EndpointAddress{IP: s.Addr().String()}) //nolint:staticcheck // as above
	}
	slices.Sort(ports)
	var out []corev1.EndpointSubset //nolint:staticcheck // as above
	for _, p := range ports {
		out = append(out, corev1.EndpointSubset{Addresses: byPort[p], //nolint:staticcheck // as above
			Ports: []corev1.EndpointPort{{Name: portName, Port: int32(p), Protocol: corev1.ProtocolTCP}}}) //nolint:staticcheck // as above
	}
	return out
}

// endpointSlice has the servers of this one's family; all listen on one port in
// a cluster that was set up as one.
func endpointSlice(ctx context.Context, c Config, servers []netip.AddrPort) error {
	family := discoveryv1.AddressTypeIPv4
	if c.Address.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	var eps []discoveryv1.Endpoint
	for _, s := range servers {
		if s.Addr().Is4() == c.Address.Is4() && s.Port() == uint16(c.Port) {
			eps = append(eps, discoveryv1.Endpoint{Addresses: []string{s.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}})
		}
	}
	ports := []discoveryv1.EndpointPort{{Name: ptr.To(portName), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(c.Port))}}
	client := c.Client.DiscoveryV1().EndpointSlices("default")
	have, err := client.Get(ctx, serviceName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: serviceName, Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: serviceName}},
			AddressType: family, Endpoints: eps, Ports: ports,
		}, metav1.CreateOptions{})
	case err == nil && (!equality.Semantic.DeepEqual(have.Endpoints, eps) || !equality.Semantic.DeepEqual(have.Ports, ports)):
		have.Endpoints, have.Ports = eps, ports
		_, err = client.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("endpoint slice of default/kubernetes: %w", err)
	}
	return nil
}
