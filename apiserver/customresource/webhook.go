package customresource

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"
)

const (
	// conversionTimeout bounds one conversion, as upstream's clients of webhooks.
	conversionTimeout = 30 * time.Second
	// maxConverted bounds what a webhook may send.
	maxConverted = 16 << 20
)

// Dial reaches a ready endpoint of a service's port.
type Dial func(ctx context.Context, namespace, service string, port int32) (net.Conn, error)

// webhook converts by asking a server.
type webhook struct {
	client *http.Client
	url    string
	// review is the version of ConversionReview that both sides know.
	review string
}

func newWebhook(crd *v1.CustomResourceDefinition, dial Dial) (*webhook, error) {
	conf := crd.Spec.Conversion.Webhook
	if conf == nil || conf.ClientConfig == nil {
		return nil, errors.New("spec.conversion.webhook.clientConfig is missing")
	}
	w := &webhook{}
	for _, version := range conf.ConversionReviewVersions {
		if version == "v1" || version == "v1beta1" {
			w.review = version
			break
		}
	}
	if w.review == "" {
		return nil, errors.New("no supported conversion review versions")
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16,
	}
	c := conf.ClientConfig
	switch {
	case c.Service != nil:
		s, port := c.Service, ptr.Deref(c.Service.Port, 443)
		host := s.Name + "." + s.Namespace + ".svc"
		w.url = (&url.URL{Scheme: "https", Host: net.JoinHostPort(host, fmt.Sprint(port)), Path: ptr.Deref(s.Path, "/")}).String()
		transport.TLSClientConfig.ServerName = host
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, s.Namespace, s.Name, port) }
	case c.URL != nil:
		w.url = *c.URL
	default:
		return nil, errors.New("spec.conversion.webhook.clientConfig must have either service or URL")
	}
	if ca := bytes.TrimSpace(c.CABundle); len(ca) > 0 {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("spec.conversion.webhook.clientConfig.caBundle: unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	w.client = &http.Client{
		Transport: transport, Timeout: conversionTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

func (w *webhook) close() { w.client.CloseIdleConnections() }

func (w *webhook) convert(in *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error) {
	out, err := w.convertAll([]*unstructured.Unstructured{in}, to)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// convertAll asks once for all objects, which are of one kind.
func (w *webhook) convertAll(in []*unstructured.Unstructured, to schema.GroupVersion) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, len(in))
	var raws []runtime.RawExtension
	var at []int // which of in a raw is
	for i, u := range in {
		// An object with nothing in it is the same in every version.
		if len(u.Object) == 2 && u.GetKind() != "" && u.GetAPIVersion() != "" {
			out[i], _ = sameShape{}.convert(u, to) // it never fails
			continue
		}
		raw, err := json.Marshal(u.Object)
		if err != nil {
			return nil, err
		}
		raws, at = append(raws, runtime.RawExtension{Raw: raw}), append(at, i)
	}
	if len(raws) == 0 {
		return out, nil
	}
	gvk := in[at[0]].GroupVersionKind()
	converted, err := w.ask(raws, to)
	if err != nil {
		return nil, fmt.Errorf("conversion webhook for %v failed: %w", gvk, err)
	}
	if len(converted) != len(raws) {
		return nil, fmt.Errorf("conversion webhook for %v returned %d objects, expected %d", gvk, len(converted), len(raws))
	}
	for n, i := range at {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(converted[n].Raw); err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid converted object at index %d: %w", gvk, n, err)
		}
		if err := accept(n, in[i], u, to); err != nil {
			return nil, err
		}
		out[i] = u
	}
	return out, nil
}

// ask sends objects and returns what the webhook makes of them.
func (w *webhook) ask(objects []runtime.RawExtension, to schema.GroupVersion) ([]runtime.RawExtension, error) {
	id := uuid.NewUUID()
	if w.review == "v1beta1" {
		review := v1beta1.ConversionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "ConversionReview"},
			Request:  &v1beta1.ConversionRequest{UID: id, DesiredAPIVersion: to.String(), Objects: objects},
		}
		var answer v1beta1.ConversionReview
		if err := w.post(&review, &answer); err != nil {
			return nil, err
		}
		if answer.Response == nil {
			return nil, errors.New("no response provided")
		}
		return answer.Response.ConvertedObjects, succeeded(answer.Response.Result)
	}
	review := v1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.SchemeGroupVersion.String(), Kind: "ConversionReview"},
		Request:  &v1.ConversionRequest{UID: id, DesiredAPIVersion: to.String(), Objects: objects},
	}
	var answer v1.ConversionReview
	if err := w.post(&review, &answer); err != nil {
		return nil, err
	}
	return reviewed(&answer, id)
}

func reviewed(answer *v1.ConversionReview, id types.UID) ([]runtime.RawExtension, error) {
	want := v1.SchemeGroupVersion.WithKind("ConversionReview")
	switch {
	case answer.GroupVersionKind() != want:
		return nil, fmt.Errorf("expected webhook response of %v, got %v", want, answer.GroupVersionKind())
	case answer.Response == nil:
		return nil, errors.New("no response provided")
	case answer.Response.UID != id:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", id, answer.Response.UID)
	}
	return answer.Response.ConvertedObjects, succeeded(answer.Response.Result)
}

func succeeded(s metav1.Status) error {
	switch {
	case s.Status == metav1.StatusSuccess:
		return nil
	case s.Message != "":
		return errors.New(s.Message)
	}
	return fmt.Errorf("response.result.status was '%s', not 'Success'", s.Status)
}

func (w *webhook) post(in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxConverted+1))
	if err != nil {
		return err
	}
	if len(data) > maxConverted {
		return fmt.Errorf("the webhook's answer is above %d bytes", maxConverted)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server responded with status %d: %s", resp.StatusCode, strings.TrimSpace(string(data[:min(len(data), 512)])))
	}
	return json.Unmarshal(data, out)
}
