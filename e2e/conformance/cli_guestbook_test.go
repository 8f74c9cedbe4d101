package conformance

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// guestbookPart is a deployment of probes and its service.
const guestbookPart = `
apiVersion: v1
kind: Service
metadata: {name: NAME, labels: {app: guestbook, tier: NAME}}
spec:
  ports: [{port: 80, targetPort: 8080}]
  selector: {app: guestbook, tier: NAME}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: guestbook, tier: NAME}}
  template:
    metadata: {labels: {app: guestbook, tier: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: probe, args: [serve], ports: [{containerPort: 8080}], resources: {requests: {cpu: 10m, memory: 10Mi}}}
---
`

// Conformance: [sig-cli] Kubectl client Guestbook application should create and stop a working application
func TestCLIGuestbook(t *testing.T) {
	s := parallel(t)
	var manifest string
	for name, replicas := range map[string]int{"agnhost-primary": 1, "agnhost-replica": 2, "frontend": 3} {
		manifest += strings.NewReplacer("NAME", name, "REPLICAS", fmt.Sprint(replicas)).Replace(guestbookPart)
	}
	s.mustKubectl(manifest, "create", "-f", "-")
	s.runningNames("guestbook", 6)

	// The entry is kept by the primary, and read through the frontend and a replica.
	proxy := func(method, service, path string, query url.Values, body string) (string, error) {
		req := s.client.CoreV1().RESTClient().Verb(method).Namespace(s.name).Resource("services").Name(service).SubResource("proxy").Suffix(path)
		for k, v := range query {
			req.Param(k, v[0])
		}
		if body != "" {
			req.Body([]byte(body))
		}
		b, err := req.DoRaw(s.ctx)
		return string(b), err
	}
	s.eventually(30*time.Second, "the entry is written", func() error {
		_, err := proxy(http.MethodPut, "agnhost-primary", "file", url.Values{"path": {"/entry"}}, "TestEntry")
		return err
	})
	kept := "http://agnhost-primary/file?path=/entry"
	replica := "http://agnhost-replica/get?url=" + url.QueryEscape(kept)
	s.eventually(60*time.Second, "the entry is read", func() error {
		out, err := proxy(http.MethodGet, "frontend", "get", url.Values{"url": {replica}}, "")
		if err == nil && !strings.Contains(out, "TestEntry") {
			err = fmt.Errorf("the frontend says %q", out)
		}
		return err
	})
	s.mustKubectl(manifest, "delete", "--grace-period=0", "--force", "-f", "-")
	s.runningNames("guestbook", 0)
}
