package connect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"skiff/apiserver/handlers"
)

// proxy hands a request on to a node, a pod or a service.
func (c *connectors) proxy(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	prefix, rest := splitProxyPath(r.URL.EscapedPath())
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(t.Name)
	if !ok {
		handlers.WriteError(w, r, apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", strings.ToLower(t.Resource.Kind), t.Name)))
		return
	}
	if err := c.admitProxy(r.Context(), t, rest); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	u, transport, err := c.backend(r.Context(), t, scheme, name, port)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if rest == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == "" {
		// Without the slash, relative links of the page would lead elsewhere.
		to := r.URL.Path + "/"
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	to, err := below(u, rest, r.URL.RawQuery)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.pass(w, r, passing{to: to, transport: transport, prefix: prefix})
}

// below is a path of the backend. It is taken as a path whatever it looks like, and
// sent on as it was written.
func below(backend *url.URL, escaped, query string) (*url.URL, error) {
	if escaped == "" {
		escaped = "/"
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid path %q", escaped))
	}
	return &url.URL{Scheme: backend.Scheme, Host: backend.Host, Path: path, RawPath: escaped, RawQuery: query}, nil
}

func (c *connectors) admitProxy(ctx context.Context, t *handlers.Target, path string) error {
	switch t.Resource.Kind {
	case "Node":
		return c.API.Connect(ctx, t, &corev1.NodeProxyOptions{Path: path})
	case "Service":
		return c.API.Connect(ctx, t, &corev1.ServiceProxyOptions{Path: path})
	}
	return c.API.Connect(ctx, t, &corev1.PodProxyOptions{Path: path})
}

// splitProxyPath cuts a path behind ".../NAME/proxy".
func splitProxyPath(path string) (prefix, rest string) {
	// /api/v1/nodes/N/proxy has 5 parts, /api/v1/namespaces/NS/pods/P/proxy 7.
	parts := strings.SplitAfter(path, "/")
	n := 6
	if len(parts) > 3 && parts[3] == "namespaces/" {
		n = 8
	}
	if len(parts) < n {
		return path, ""
	}
	prefix = strings.TrimSuffix(strings.Join(parts[:n], ""), "/")
	return prefix, strings.TrimPrefix(path, prefix)
}

// backend is the place behind a name. The address that is checked here is the
// one that is dialled.
func (c *connectors) backend(ctx context.Context, t *handlers.Target, scheme, name, port string) (*url.URL, http.RoundTripper, error) {
	switch t.Resource.Kind {
	case "Node":
		return c.nodeBackend(ctx, scheme, name, port)
	case "Service":
		return c.serviceBackend(ctx, t.Namespace, scheme, name, port)
	}
	own := *t
	own.Name = name
	pod, err := c.pod(ctx, &own)
	if err != nil {
		return nil, nil, err
	}
	if port == "" {
		for _, ct := range pod.Spec.Containers {
			if len(ct.Ports) > 0 {
				port = strconv.Itoa(int(ct.Ports[0].ContainerPort))
				break
			}
		}
	}
	ip := pod.Status.PodIP
	if err := proxyable(ip); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return &url.URL{Scheme: schemeOr(scheme), Host: hostPort(ip, port)}, c.Dialer.plainTransport(), nil
}

func schemeOr(scheme string) string {
	if scheme == "" {
		return "http"
	}
	return scheme
}

func hostPort(ip, port string) string {
	if port == "" {
		if strings.Contains(ip, ":") {
			return "[" + ip + "]"
		}
		return ip
	}
	return net.JoinHostPort(ip, port)
}

// proxyable refuses addresses that mean this machine or its neighbours: they
// would let a pod's writer reach what listens here only for itself.
func proxyable(ip string) error {
	addr := net.ParseIP(ip)
	if addr == nil || !addr.IsGlobalUnicast() {
		return errAddress
	}
	return nil
}

var errAddress = errors.New("address not allowed")

func (c *connectors) nodeBackend(ctx context.Context, scheme, name, port string) (*url.URL, http.RoundTripper, error) {
	n, err := c.Dialer.node(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	host, err := c.Dialer.address(n)
	if err != nil {
		return nil, nil, err
	}
	own := strconv.Itoa(portOf(n))
	if port == "" || port == own {
		return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, own)}, c.Dialer.kubeletTransport(), nil
	}
	if err := proxyable(host); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return &url.URL{Scheme: schemeOr(scheme), Host: net.JoinHostPort(host, port)}, c.Dialer.plainTransport(), nil
}

func (c *connectors) serviceBackend(ctx context.Context, namespace, scheme, name, port string) (*url.URL, http.RoundTripper, error) {
	svc, err := c.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	if err != nil {
		return nil, nil, err
	}
	// A number is a port of the service; its endpoints go by the name.
	if n, err := strconv.Atoi(port); err == nil {
		found := false
		for _, p := range svc.Spec.Ports {
			if int(p.Port) == n {
				port, found = p.Name, true
				break
			}
		}
		if !found {
			return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", n, name))
		}
	} else if port == "" && len(svc.Spec.Ports) == 1 {
		port = svc.Spec.Ports[0].Name
	}
	list, err := c.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return nil, nil, err
	}
	places := endpointPlaces(list.Items, port)
	for _, n := range rand.Perm(len(places)) {
		if c.isPod(ctx, namespace, places[n]) {
			return &url.URL{Scheme: schemeOr(scheme), Host: places[n].host}, c.Dialer.plainTransport(), nil
		}
	}
	return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
}

// place is where a service answers, as an EndpointSlice has it.
type place struct {
	// host is ip with the port.
	host, ip string
	pod      *corev1.ObjectReference
}

// isPod tells whether a place is that of a pod of the namespace: who may write
// EndpointSlices must not choose where this server connects to.
func (c *connectors) isPod(ctx context.Context, namespace string, p place) bool {
	if p.pod == nil || p.pod.Namespace != namespace || p.pod.Kind != "Pod" {
		return false
	}
	pod, err := c.Client.CoreV1().Pods(namespace).Get(ctx, p.pod.Name, metav1.GetOptions{})
	return err == nil && slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == p.ip })
}

func endpointPlaces(list []discoveryv1.EndpointSlice, port string) []place {
	var out []place
	for _, s := range list {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil && port != "" || p.Name != nil && *p.Name != port {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready {
					continue
				}
				for _, a := range e.Addresses {
					if proxyable(a) == nil {
						out = append(out, place{host: net.JoinHostPort(a, strconv.Itoa(int(*p.Port))), ip: a, pod: e.TargetRef})
					}
				}
			}
		}
	}
	return out
}
