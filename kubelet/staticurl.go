package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"
)

const (
	// staticURLTimeout is how long staticPodURL may take to answer, and
	// staticURLSize how long the answer may be.
	staticURLTimeout = 10 * time.Second
	staticURLSize    = 10 << 20
)

// watchStaticURL asks staticPodURL for pods, again and again. What it said last
// stays while it does not answer. The channel closes at the first answer.
func (k *Kubelet) watchStaticURL(ctx context.Context, wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	url := k.cfg.Kubelet.StaticPodURL
	if url == "" {
		close(done)
		return done
	}
	wg.Go(func() {
		ticker := time.NewTicker(k.cfg.Kubelet.HTTPCheckFrequency.Duration)
		defer ticker.Stop()
		var known map[types.UID]bool
		for answered := sync.OnceFunc(func() { close(done) }); ; {
			found, err := k.askStatic(ctx, url)
			if err != nil {
				klog.FromContext(ctx).Info("Reading static pods failed, will try again", "err", err)
			} else {
				known = k.takeStatic(known, found)
				answered()
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return done
}

// askStatic asks for the pods. One that is wrong makes the whole answer wrong.
func (k *Kubelet) askStatic(ctx context.Context, url string) (map[types.UID]*v1.Pod, error) {
	data, err := k.fetchStatic(ctx, url)
	if err != nil {
		return nil, err
	}
	manifests, err := podsIn(data)
	if err != nil {
		return nil, err
	}
	out := map[types.UID]*v1.Pod{}
	for _, m := range manifests {
		pod, err := k.staticPod(m, sourceHTTP, url)
		if err != nil {
			return nil, err
		}
		out[pod.UID] = pod
	}
	return out, nil
}

func (k *Kubelet) fetchStatic(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, staticURLTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	url = r.URL.Redacted()
	for name, values := range k.cfg.Kubelet.StaticPodURLHeader {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	// The headers may be secrets, which are not for others.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, staticURLSize+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	case len(data) == 0:
		return nil, fmt.Errorf("zero-length data received from %s", url)
	case len(data) > staticURLSize:
		return nil, fmt.Errorf("%s answers with more than %d bytes", url, staticURLSize)
	}
	return data, nil
}

// podsIn are the manifests in an answer: of one pod, or of a list of them.
func podsIn(data []byte) ([][]byte, error) {
	plain, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	var list struct {
		metav1.TypeMeta
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(plain, &list); err != nil {
		return nil, err
	}
	switch list.Kind {
	case "Pod":
		return [][]byte{plain}, nil
	case "PodList", "List":
	default:
		return nil, errors.New("want a Pod or a PodList")
	}
	var out [][]byte
	for i, item := range list.Items {
		if item == nil {
			return nil, fmt.Errorf("items[%d] is null: want a Pod", i)
		}
		// The items of a PodList need not say what they are.
		if list.Kind == "PodList" {
			item["apiVersion"], item["kind"] = "v1", "Pod"
		}
		m, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
