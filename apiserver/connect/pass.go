package connect

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
)

// passing is one request that is handed on.
type passing struct {
	// to is where; its path and query replace the request's.
	to        *url.URL
	transport http.RoundTripper
	// upgradeOnly: the request makes no sense without an upgraded connection,
	// and what a kubelet answers instead is an error.
	upgradeOnly bool
	// text: errors of the kubelet are text, to be told as a Status.
	text     bool
	resource *handlers.Target
	// prefix is where the request came in; redirects of the other side, and the
	// links of its pages, are rewritten to stay below it.
	prefix string
}

// maxRefusal bounds what is read of a refusal.
const maxRefusal = 64 << 10

// pass hands a request on and its answer back. Upgraded connections are copied
// both ways, whatever they speak. No redirect is followed.
func (c *connectors) pass(w http.ResponseWriter, r *http.Request, p passing) {
	if p.upgradeOnly && r.Header.Get("Upgrade") == "" {
		handlers.WriteError(w, r, apierrors.NewBadRequest("Upgrade request required"))
		return
	}
	proxy := httputil.ReverseProxy{
		Transport:     p.transport,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = p.to
			pr.Out.Host = p.to.Host
			// Who the client is stays between it and this server.
			for name := range pr.Out.Header {
				if strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") || name == "Authorization" {
					pr.Out.Header.Del(name)
				}
			}
			if p.prefix != "" {
				pr.SetXForwarded()
				pr.Out.Header.Set("X-Forwarded-Uri", p.prefix+p.to.EscapedPath())
				pr.Out.Header.Set("X-Forwarded-Host", r.Host)
			}
			if _, ok := pr.Out.Header["User-Agent"]; !ok {
				pr.Out.Header.Set("User-Agent", "")
			}
		},
		ModifyResponse: func(resp *http.Response) error { return p.answered(resp) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var api apierrors.APIStatus
			if !errors.As(err, &api) {
				logOf(c.Dialer).Debug("a proxied request failed", "to", p.to.Host, "err", err)
				if p.upgradeOnly || p.text {
					err = apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
				} else {
					err = apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
				}
			}
			handlers.WriteError(w, r, err)
		},
	}
	proxy.ErrorLog = nil
	proxy.ServeHTTP(w, r)
}

func (p passing) answered(resp *http.Response) error {
	switch {
	case p.upgradeOnly && resp.StatusCode != http.StatusSwitchingProtocols:
		return refused(resp)
	case p.text && resp.StatusCode >= 400:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		resp.Body.Close()
		text := strings.TrimSpace(string(body))
		if resp.StatusCode == http.StatusBadRequest {
			return apierrors.NewBadRequest(text)
		}
		return apierrors.NewGenericServerResponse(resp.StatusCode, "", p.resource.GR(), p.resource.Name, text, 0, false)
	case p.text:
		resp.Header.Set("Content-Type", "text/plain")
	case p.prefix != "":
		p.relocate(resp)
		p.links(resp)
	}
	return nil
}

// refused is the error of a kubelet that did not upgrade a connection, and ends
// the connection to it.
func refused(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	resp.Body.Close()
	code := resp.StatusCode
	if code < 400 {
		code = http.StatusInternalServerError
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reasonOf(code),
		Message: fmt.Sprintf("unable to upgrade connection: %s", strings.TrimSpace(string(body))),
	}}
}

func reasonOf(code int) metav1.StatusReason {
	return apierrors.NewGenericServerResponse(code, "", schema.GroupResource{}, "", "", 0, false).ErrStatus.Reason
}

// relocate keeps a redirect to the same host below the proxy's own path.
func (p passing) relocate(resp *http.Response) {
	location := resp.Header.Get("Location")
	if location == "" {
		return
	}
	u, err := p.to.Parse(location)
	if err != nil || u.Host != p.to.Host {
		return
	}
	u.Scheme, u.Host = "", ""
	u.Path = p.prefix + u.Path
	u.RawPath = ""
	resp.Header.Set("Location", u.String())
}

func logOf(d *Dialer) *slog.Logger {
	if d.Log == nil {
		return slog.Default()
	}
	return d.Log
}
