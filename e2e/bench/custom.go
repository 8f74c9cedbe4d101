package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"skiff/e2e/bench/figures"
)

const (
	definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	// aggregatedDiscovery asks for all of discovery in one document.
	aggregatedDiscovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	// maxCustomResources bounds what one run may define.
	maxCustomResources = 5000
	// kindsPerGroup is how many definitions share a group.
	kindsPerGroup = 10
	// documentReads is how often each document is read, and publications how
	// many definitions are followed one by one.
	documentReads, publications = 20, 10
	// published bounds the wait until definitions are served, or gone.
	published = 2 * time.Minute
	// idleTime is how long the server is watched while nothing is asked of it;
	// settling is what comes before, for the collector.
	idleTime, settling = 30 * time.Second, 10 * time.Second
)

// Idle is what the server's process uses while nothing is asked of it.
type Idle struct {
	Name       string  `json:"name"`
	CPUPercent float64 `json:"cpuPercent"` // of one core
	RSSMiB     float64 `json:"rssMiB"`
	AnonMiB    float64 `json:"anonMiB"`
}

// customResources measures what many CustomResourceDefinitions cost: at idle, in
// discovery and OpenAPI, and until one more of them is published.
func customResources(ctx context.Context, r *run) (err error) {
	n := r.cfg.CustomResources
	if n == 0 {
		return nil
	}
	if err := r.idle(ctx, "custom-none-idle"); err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), published)
		defer cancel()
		err = errors.Join(err, r.removeDefinitions(end))
	}()
	began := time.Now()
	if err := r.spread(ctx, "custom-define", n, func(ctx context.Context, k kubernetes.Interface, i int) error {
		return r.define(ctx, k, i)
	}); err != nil {
		return err
	}
	if err := r.awaitDiscovered(ctx, n); err != nil {
		return err
	}
	whole := time.Since(began)
	if err := r.report("custom-all-discovered", len(r.clients), whole, []time.Duration{whole}, 0); err != nil {
		return err
	}
	if err := r.idle(ctx, "custom-idle"); err != nil {
		return err
	}

	one := *r
	one.clients = r.clients[:1]
	for _, d := range []struct{ name, path, accept string }{
		{"custom-discovery", "/apis", aggregatedDiscovery},
		{"custom-openapi-index", "/openapi/v3", "application/json"},
		{"custom-openapi-group", "/openapi/v3/apis/" + r.customGroup(0) + "/v1", "application/json"},
		{"custom-openapi-v2", "/openapi/v2", "application/json"},
	} {
		if err := one.spread(ctx, d.name, documentReads, func(ctx context.Context, k kubernetes.Interface, _ int) error {
			_, err := document(ctx, k, d.path, d.accept)
			return err
		}); err != nil {
			return err
		}
	}
	// Groups of their own, so that a document of theirs was never there.
	first := (n/kindsPerGroup + 1) * kindsPerGroup
	if err := one.spread(ctx, "custom-publish", publications, func(ctx context.Context, k kubernetes.Interface, i int) error {
		i = first + i*kindsPerGroup
		if err := r.define(ctx, k, i); err != nil {
			return err
		}
		return r.awaitPublished(ctx, k, i)
	}); err != nil {
		return err
	}
	// Documents as large as these leave memory behind for a while.
	return r.idle(ctx, "custom-read-idle")
}

// idle reports what the server uses while this process asks nothing of it.
func (r *run) idle(ctx context.Context, name string) error {
	if r.cfg.Server == 0 {
		return nil
	}
	if err := pause(ctx, settling); err != nil {
		return err
	}
	before, err := figures.CPU(r.cfg.Server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, idleTime); err != nil {
		return err
	}
	after, err := figures.CPU(r.cfg.Server)
	if err != nil {
		return err
	}
	rss, anon, err := figures.Memory(r.cfg.Server)
	if err != nil {
		return err
	}
	return r.out.Encode(Idle{Name: name, CPUPercent: 100 * (after - before).Seconds() / time.Since(began).Seconds(), RSSMiB: rss, AnonMiB: anon})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *run) customGroup(i int) string {
	return fmt.Sprintf("g%d.%s.example", i/kindsPerGroup, r.cfg.Namespace)
}

func customPlural(i int) string { return fmt.Sprintf("things%d", i) }

// definition is a small structural one.
func (r *run) definition(i int) ([]byte, error) {
	type object = map[string]any
	kind := fmt.Sprintf("Thing%d", i)
	return json.Marshal(object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": customPlural(i) + "." + r.customGroup(i), "labels": object{"bench": r.cfg.Namespace}},
		"spec": object{
			"group": r.customGroup(i), "scope": "Namespaced",
			"names": object{"plural": customPlural(i), "singular": fmt.Sprintf("thing%d", i), "kind": kind, "listKind": kind + "List"},
			"versions": []object{{
				"name": "v1", "served": true, "storage": true, "subresources": object{"status": object{}},
				"schema": object{"openAPIV3Schema": object{"type": "object", "properties": object{
					"spec": object{"type": "object", "properties": object{
						"size":   object{"type": "integer", "minimum": 1, "default": 1},
						"name":   object{"type": "string", "maxLength": 63},
						"tags":   object{"type": "array", "items": object{"type": "string"}, "x-kubernetes-list-type": "set"},
						"labels": object{"type": "object", "additionalProperties": object{"type": "string"}},
					}},
					"status": object{"type": "object", "properties": object{"ready": object{"type": "boolean"}}},
				}}},
			}},
		},
	})
}

func (r *run) define(ctx context.Context, k kubernetes.Interface, i int) error {
	body, err := r.definition(i)
	if err != nil {
		return err
	}
	return k.Discovery().RESTClient().Post().AbsPath(definitions).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
}

// document is a document of the server as it sends it.
func document(ctx context.Context, k kubernetes.Interface, path, accept string) ([]byte, error) {
	return k.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", accept).DoRaw(ctx)
}

// awaitDiscovered waits until discovery tells of n custom resources. Reading the
// documents of each would be most of the work.
func (r *run) awaitDiscovered(ctx context.Context, n int) error {
	found := 0
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, published, true, func(ctx context.Context) (bool, error) {
		b, err := document(ctx, r.clients[0], "/apis", aggregatedDiscovery)
		found = bytes.Count(b, []byte(`"resource":"things`))
		return found >= n, err
	})
	if err != nil {
		return fmt.Errorf("discovery tells of %d of %d custom resources: %w", found, n, err)
	}
	return nil
}

// awaitPublished waits until a custom resource is served, and told of in
// discovery and in OpenAPI.
func (r *run) awaitPublished(ctx context.Context, k kubernetes.Interface, i int) error {
	group := r.customGroup(i)
	for _, d := range []struct{ path, accept, has string }{
		{"/apis/" + group + "/v1/" + customPlural(i), "application/json", ""},
		{"/apis/" + group + "/v1", "application/json", `"` + customPlural(i) + `"`},
		{"/openapi/v3/apis/" + group + "/v1", "application/json", "/" + customPlural(i) + `"`},
	} {
		err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, published, true, func(ctx context.Context) (bool, error) {
			b, err := document(ctx, k, d.path, d.accept)
			if apierrors.IsNotFound(err) || apierrors.IsServiceUnavailable(err) {
				return false, nil
			}
			return err == nil && bytes.Contains(b, []byte(d.has)), err
		})
		if err != nil {
			return fmt.Errorf("%s does not tell of %s: %w", d.path, customPlural(i), err)
		}
	}
	return nil
}

// removeDefinitions deletes what define made, and waits until it is gone.
func (r *run) removeDefinitions(ctx context.Context) error {
	c := r.clients[0].Discovery().RESTClient()
	if err := c.Delete().AbsPath(definitions).Param("labelSelector", "bench="+r.cfg.Namespace).Do(ctx).Error(); err != nil {
		return fmt.Errorf("delete the definitions: %w", err)
	}
	err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		b, err := c.Get().AbsPath(definitions).Param("labelSelector", "bench="+r.cfg.Namespace).Param("limit", "1").SetHeader("Accept", "application/json").DoRaw(ctx)
		if err != nil {
			return false, err
		}
		var list struct{ Items []json.RawMessage }
		return json.Unmarshal(b, &list) == nil && len(list.Items) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("definitions with the label bench=%s are left: delete them: %w", r.cfg.Namespace, err)
	}
	return nil
}
