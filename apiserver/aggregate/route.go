package aggregate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/utils/ptr"
)

// route leads to the server behind one APIService.
type route struct {
	name      string
	spec      v1.APIServiceSpec
	service   v1.ServiceReference
	available bool
	// err is why there is no transport.
	err error
	// transport is for requests, upgrades for those that become streams: only
	// HTTP/1.1 has these.
	transport, upgrades *http.Transport
}

// host is the name that the server's certificate is for.
func (r *route) host() string { return r.service.Name + "." + r.service.Namespace + ".svc" }

func (a *Aggregator) newRoute(s *v1.APIService) *route {
	r := &route{name: s.Name, spec: s.Spec, service: *s.Spec.Service}
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: r.host(), InsecureSkipVerify: s.Spec.InsecureSkipTLSVerify, //nolint:gosec // as the APIService asks
		GetClientCertificate: a.cfg.ClientCertificate,
	}
	if len(s.Spec.CABundle) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(s.Spec.CABundle) {
			r.err = errors.New("unable to load root certificates: unable to parse bytes as PEM block")
			return r
		}
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return a.services.Dial(ctx, r.service.Namespace, r.service.Name, ptr.Deref(r.service.Port, 443))
	}
	transport := func(c *tls.Config, http2 bool) *http.Transport {
		return &http.Transport{
			DialContext: dial, TLSClientConfig: c, ForceAttemptHTTP2: http2, TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 25, DisableCompression: true,
		}
	}
	r.transport = transport(conf, true)
	old := conf.Clone()
	old.NextProtos = []string{"http/1.1"}
	r.upgrades = transport(old, false)
	return r
}

func (r *route) close() {
	if r.transport != nil {
		r.transport.CloseIdleConnections()
		r.upgrades.CloseIdleConnections()
	}
}

// reroute brings the routes up to what an APIService says now.
func (a *Aggregator) reroute(name string) {
	s, err := a.lister.Get(name)
	gv := helper.APIServiceNameToGroupVersion(name)
	a.mu.Lock()
	old := (*a.routes.Load())[gv]
	var next *route
	if err == nil && s.Spec.Service != nil {
		if old != nil && equality.Semantic.DeepEqual(old.spec, s.Spec) {
			same := *old
			next = &same
		} else {
			next = a.newRoute(s)
		}
		next.available = helper.IsAPIServiceConditionTrue(s, v1.Available)
	}
	if old == nil && next == nil {
		a.mu.Unlock()
		return
	}
	routes := maps.Clone(*a.routes.Load())
	if routes[gv] = next; next == nil {
		delete(routes, gv)
		delete(a.found, gv)
	}
	a.routes.Store(&routes)
	a.mu.Unlock()
	if old != nil && (next == nil || next.transport != old.transport) {
		old.close()
	}
	if next == nil {
		a.cfg.OnDocument(docPath(gv), nil)
		a.cfg.OnDocumentV2(docPath(gv), nil)
	}
	if next == nil || old == nil || old.available != next.available {
		a.cfg.OnChange()
	}
}

// Remote tells whether another server serves a group version.
func (a *Aggregator) Remote(gv schema.GroupVersion) bool { return (*a.routes.Load())[gv] != nil }

func docPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}
