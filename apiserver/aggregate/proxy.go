package aggregate

import (
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/transport"
	"k8s.io/utils/ptr"

	"skiff/apiserver/request"
	"skiff/cluster/tracing"
)

// groupVersionOf reads a path: /api/v1/… or /apis/GROUP/VERSION/….
func groupVersionOf(path string) (schema.GroupVersion, bool) {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 4)
	switch {
	case len(parts) >= 3 && parts[0] == "apis":
		return schema.GroupVersion{Group: parts[1], Version: parts[2]}, true
	case len(parts) >= 2 && parts[0] == "api":
		return schema.GroupVersion{Version: parts[1]}, true
	}
	return schema.GroupVersion{}, false
}

var errRedirect = errors.New("the backend attempted to redirect this request, which is not permitted")

// Handle hands a request on that another server is to answer. It reports false, and
// does nothing, where this server is.
func (a *Aggregator) Handle(w http.ResponseWriter, r *http.Request) bool {
	gv, ok := groupVersionOf(r.URL.Path)
	if !ok {
		return false
	}
	to := (*a.routes.Load())[gv]
	if to == nil {
		return false
	}
	user := request.UserFrom(r.Context())
	switch {
	case to.err != nil:
		http.Error(w, to.err.Error(), http.StatusInternalServerError)
	case !to.available:
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
	case user == nil:
		http.Error(w, "missing user", http.StatusInternalServerError)
	default:
		a.pass(w, r, to)
	}
	return true
}

func (a *Aggregator) pass(w http.ResponseWriter, r *http.Request, to *route) {
	user := request.UserFrom(r.Context())
	proxy := httputil.ReverseProxy{
		Transport: to.transport, FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = &url.URL{
				Scheme: "https", Host: net.JoinHostPort(to.host(), strconv.Itoa(int(ptr.Deref(to.service.Port, 443)))),
				Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery,
			}
			pr.Out.Host = pr.Out.URL.Host
			// Only this server says who the user is.
			for name := range pr.Out.Header {
				lower := strings.ToLower(name)
				if strings.HasPrefix(lower, "impersonate-") || strings.HasPrefix(lower, "x-remote-") || lower == "authorization" {
					delete(pr.Out.Header, name)
				}
			}
			pr.SetXForwarded()
			tracing.Inject(pr.In.Context(), pr.Out.Header)
			transport.SetAuthProxyHeaders(pr.Out, user.GetName(), user.GetUID(), user.GetGroups(), user.GetExtra())
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
				return errRedirect
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errRedirect) {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			a.cfg.Log.Debug("an aggregated request failed", "apiService", to.name, "err", err)
			http.Error(w, "error trying to reach service: "+err.Error(), http.StatusServiceUnavailable)
		},
	}
	if r.Header.Get("Upgrade") != "" {
		proxy.Transport = to.upgrades
	}
	proxy.ServeHTTP(w, r)
}
