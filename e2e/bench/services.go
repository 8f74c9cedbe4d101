package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

const (
	// addedServices is how many services are added one by one, and how many
	// times endpoints change.
	addedServices = 20
	// attempt bounds one try to connect: before a service is programmed its
	// packets go nowhere.
	attempt = 20 * time.Millisecond
	// programmed bounds the wait for a service.
	programmed = 2 * time.Minute
)

// services measures how long a Service and a change of its endpoints take to
// reach the rules of this machine's node: the time from the request to the first
// connection that the right endpoint answered. Some services are there already.
// The endpoints are listeners of this process.
func services(ctx context.Context, r *run) (err error) {
	if r.cfg.Services == 0 {
		return nil
	}
	own, err := ownAddress(r.cfg.Kubeconfig)
	if err != nil {
		return err
	}
	var ends []*endpoint
	for i := range 2 {
		e, err := listen(ctx, own, byte('a'+i))
		if err != nil {
			return err
		}
		defer e.Close()
		ends = append(ends, e)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, r.removeServices(end))
	}()

	began := time.Now()
	ips := make([]string, r.cfg.Services)
	if err := r.spread(ctx, "service-create", r.cfg.Services, func(ctx context.Context, k kubernetes.Interface, i int) (err error) {
		ips[i], err = r.service(ctx, k, "bench-"+name(i), ends[0], ends[1])
		return err
	}); err != nil {
		return err
	}
	for _, ip := range ips {
		if err := answers(ctx, ip, 0); err != nil {
			return err
		}
	}
	if err := r.report("service-all-programmed", len(r.clients), time.Since(began), []time.Duration{time.Since(began)}, 0); err != nil {
		return err
	}

	one := *r
	one.clients = r.clients[:1]
	added := make([]string, addedServices)
	if err := one.spread(ctx, "service-added", addedServices, func(ctx context.Context, k kubernetes.Interface, i int) error {
		ip, err := r.service(ctx, k, "added-"+name(i), ends[0])
		if err != nil {
			return err
		}
		added[i] = ip
		return answers(ctx, ip, 'a')
	}); err != nil {
		return err
	}
	return one.spread(ctx, "service-endpoint-changed", addedServices, func(ctx context.Context, k kubernetes.Interface, i int) error {
		slice := endpointSlice("added-"+name(i), ends[1])
		if _, err := k.DiscoveryV1().EndpointSlices(r.cfg.Namespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			return err
		}
		return answers(ctx, added[i], 'b')
	})
}

// ownAddress is the address that this machine reaches the API server from, which
// its node's rules are tried from.
func ownAddress(kubeconfig string) (string, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(cfg.Host)
	if err != nil {
		return "", err
	}
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), "9"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	ip := c.LocalAddr().(*net.UDPAddr).IP
	if ip.IsLoopback() {
		return "", fmt.Errorf("the API server %s is on a loopback address, which no endpoint can have: name the node's address in the kubeconfig", u.Host)
	}
	return ip.String(), nil
}

// endpoint is a listener that says which it is.
type endpoint struct {
	net.Listener
	ip   string
	port int32
}

func listen(ctx context.Context, ip string, says byte) (*endpoint, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			_, _ = c.Write([]byte{says}) // a client that went away is no loss
			c.Close()
		}
	}()
	return &endpoint{Listener: l, ip: ip, port: int32(l.Addr().(*net.TCPAddr).Port)}, nil
}

// service makes a Service without a selector and its endpoints, one slice for
// each port.
func (r *run) service(ctx context.Context, k kubernetes.Interface, called string, ends ...*endpoint) (clusterIP string, err error) {
	s, err := k.CoreV1().Services(r.cfg.Namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: called, Labels: map[string]string{"bench": "service"}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	for i, e := range ends {
		slice := endpointSlice(called, e)
		if i > 0 {
			slice.Name = fmt.Sprint(called, "-", i)
		}
		if _, err := k.DiscoveryV1().EndpointSlices(r.cfg.Namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return "", err
		}
	}
	return s.Spec.ClusterIP, nil
}

func endpointSlice(service string, e *endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: service, Labels: map[string]string{
			discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "skiff-bench", "bench": "service",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{e.ip}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To(e.port), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
}

// answers connects until the endpoint that says want has answered; zero is any.
func answers(ctx context.Context, ip string, want byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, programmed, fmt.Errorf("the service at %s does not answer from this machine: run the bench on a node", ip))
	defer cancel()
	for ctx.Err() == nil {
		if got, err := ask(ctx, ip); err == nil && (want == 0 || got == want) {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
	return context.Cause(ctx)
}

func ask(ctx context.Context, ip string) (byte, error) {
	d := net.Dialer{Timeout: attempt}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip, "80"))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err = io.ReadFull(c, b[:])
	return b[0], err
}

// removeServices deletes the services of the measurement, whose typed client
// deletes no collections, and their endpoints.
func (r *run) removeServices(ctx context.Context) error {
	of := metav1.ListOptions{LabelSelector: "bench=service"}
	core := r.clients[0].CoreV1().RESTClient()
	err := core.Delete().Namespace(r.cfg.Namespace).Resource("services").VersionedParams(&of, scheme.ParameterCodec).Do(ctx).Error()
	return errors.Join(err, r.clients[0].DiscoveryV1().EndpointSlices(r.cfg.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, of))
}
