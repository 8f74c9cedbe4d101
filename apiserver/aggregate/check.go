package aggregate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/transport"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/servicedial"
)

const (
	attempts     = 5
	checkTimeout = 5 * time.Second
	// maxDocument bounds what is read of another server's documents.
	maxDocument = 32 << 20
)

func no(status v1.ConditionStatus, reason, format string, args ...any) (v1.APIServiceCondition, error) {
	return v1.APIServiceCondition{Type: v1.Available, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}, nil
}

// check is what the condition of an APIService is to be. An error asks for another
// attempt soon.
func (a *Aggregator) check(ctx context.Context, s *v1.APIService) (v1.APIServiceCondition, error) {
	ref := s.Spec.Service
	port := ptr.Deref(ref.Port, 443)
	svc, err := a.services.Services.Services(ref.Namespace).Get(ref.Name)
	if apierrors.IsNotFound(err) {
		return no(v1.ConditionFalse, "ServiceNotFound", "service/%s in %q is not present", ref.Name, ref.Namespace)
	}
	if err != nil {
		return no(v1.ConditionUnknown, "ServiceAccessError", "service/%s in %q cannot be checked due to: %v", ref.Name, ref.Namespace, err)
	}
	if svc.Spec.Type == corev1.ServiceTypeClusterIP {
		name, ok := servicedial.PortName(svc, port)
		if !ok {
			return no(v1.ConditionFalse, "ServicePortError", "service/%s in %q is not listening on port %d", ref.Name, ref.Namespace, port)
		}
		list, err := a.services.Slices.EndpointSlices(ref.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: ref.Name}))
		switch {
		case err != nil:
			return no(v1.ConditionUnknown, "EndpointsAccessError", "service/%s in %q cannot be checked due to: %v", ref.Name, ref.Namespace, err)
		case len(list) == 0:
			return no(v1.ConditionFalse, "EndpointsNotFound", "cannot find endpointslices for service/%s in %q", ref.Name, ref.Namespace)
		case len(servicedial.Ready(list, name)) == 0:
			return no(v1.ConditionFalse, "MissingEndpoints", "endpointslices for service/%s in %q have no addresses with port name %q", ref.Name, ref.Namespace, name)
		}
	}
	gv := schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
	r := (*a.routes.Load())[gv]
	if r == nil {
		return no(v1.ConditionUnknown, "ServiceAccessError", "service/%s in %q is not known yet", ref.Name, ref.Namespace)
	}
	if err := a.ask(ctx, gv, r); err != nil {
		cond, _ := no(v1.ConditionFalse, "FailedDiscoveryCheck", "%s", err.Error())
		return cond, err
	}
	return no(v1.ConditionTrue, "Passed", "all checks passed")
}

// ask reads the resource list of a group version from its server, and its schemas.
// One answer out of a few attempts is enough.
func (a *Aggregator) ask(ctx context.Context, gv schema.GroupVersion, r *route) error {
	if r.err != nil {
		return r.err
	}
	var last error
	for range attempts {
		body, _, err := r.get(ctx, "/"+docPath(gv), "")
		if err == nil {
			a.learn(gv, body)
			a.document(ctx, gv, r, "/openapi/v3/"+docPath(gv), func(f *found) *seen { return &f.v3 }, a.cfg.OnDocument)
			a.document(ctx, gv, r, "/openapi/v2", func(f *found) *seen { return &f.v2 }, a.cfg.OnDocumentV2)
			return nil
		}
		last = err
		r.close()
		if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return last
}

// get reads a document with every right. Where it is still the one that had tag,
// there is no body.
func (r *route) get(ctx context.Context, path, tag string) (body []byte, newTag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(r.host(), strconv.Itoa(int(ptr.Deref(r.service.Port, 443)))), Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", "application/json")
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	transport.SetAuthProxyHeaders(req, "system:kube-aggregator", "", []string{"system:masters"}, nil)
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return nil, "", fmt.Errorf("failing or missing response from %v: %w", &u, err)
	}
	defer resp.Body.Close()
	if tag != "" && resp.StatusCode == http.StatusNotModified {
		return nil, tag, nil
	}
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument)); err != nil {
		return nil, "", fmt.Errorf("failing or missing response from %v: %w", &u, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, "", fmt.Errorf("failing or missing response from %v: bad status from %v: %d", &u, &u, resp.StatusCode)
	}
	return body, resp.Header.Get("ETag"), nil
}

// learn takes over what a server says it serves.
func (a *Aggregator) learn(gv schema.GroupVersion, body []byte) {
	var list metav1.APIResourceList
	if err := json.Unmarshal(body, &list); err != nil {
		a.cfg.Log.Warn("the resource list of another server cannot be read", "groupVersion", gv.String(), "err", err)
		return
	}
	a.mu.Lock()
	old := a.found[gv]
	same := old != nil && bytes.Equal(old.list, body)
	if !same {
		f := &found{list: body, version: versionDiscovery(gv, &list)}
		if old != nil {
			f.v3, f.v2 = old.v3, old.v2
		}
		a.found[gv] = f
	}
	a.mu.Unlock()
	if !same {
		a.cfg.OnChange()
	}
}

// seen is a document as it was read last. The document itself is with those who
// serve it.
type seen struct {
	tag string
	sum [sha256.Size]byte
}

// document takes over the schemas in one of their forms. Old servers may not have it.
func (a *Aggregator) document(ctx context.Context, gv schema.GroupVersion, r *route, path string, in func(*found) *seen, tell func(path string, doc []byte)) {
	a.mu.Lock()
	f := a.found[gv]
	a.mu.Unlock()
	if f == nil {
		return
	}
	// Each group version is checked by one worker at a time: only it writes here.
	last := in(f)
	body, tag, err := r.get(ctx, path, last.tag)
	if err != nil || !json.Valid(body) {
		return
	}
	now := seen{tag, sha256.Sum256(body)}
	same := now.sum == last.sum
	*last = now
	if !same {
		tell(docPath(gv), body)
	}
}
