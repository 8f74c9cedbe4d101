// Package extender speaks to outside processes that take part in decisions over HTTP.
package extender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	restclient "k8s.io/client-go/rest"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"skiff/scheduler/framework"
)

// maxAnswer bounds what an extender may send.
const maxAnswer = 32 << 20

// Extender is one outside process.
type Extender struct {
	conf    configv1.Extender
	client  *http.Client
	managed sets.Set[string]
}

var _ framework.Extender = (*Extender)(nil)

// New makes a client from its configuration.
func New(c *configv1.Extender) (*Extender, error) {
	cfg := &restclient.Config{Timeout: c.HTTPTimeout.Duration}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if t := c.TLSConfig; t != nil {
		cfg.TLSClientConfig = restclient.TLSClientConfig{Insecure: t.Insecure, ServerName: t.ServerName, CertFile: t.CertFile, KeyFile: t.KeyFile,
			CAFile: t.CAFile, CertData: t.CertData, KeyData: t.KeyData, CAData: t.CAData}
	}
	if c.EnableHTTPS && len(cfg.CAData) == 0 && cfg.CAFile == "" {
		cfg.Insecure = true
	}
	transport, err := restclient.TransportFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("making the transport to %s: %w", c.URLPrefix, err)
	}
	e := &Extender{conf: *c, managed: sets.New[string](), client: &http.Client{Transport: transport, Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for _, r := range c.ManagedResources {
		e.managed.Insert(r.Name)
	}
	return e, nil
}

// Name is the address.
func (e *Extender) Name() string { return e.conf.URLPrefix }

// IsFilter and its siblings tell what the extender does.
func (e *Extender) IsFilter() bool           { return e.conf.FilterVerb != "" }
func (e *Extender) IsPrioritizer() bool      { return e.conf.PrioritizeVerb != "" }
func (e *Extender) IsBinder() bool           { return e.conf.BindVerb != "" }
func (e *Extender) IsIgnorable() bool        { return e.conf.Ignorable }
func (e *Extender) SupportsPreemption() bool { return e.conf.PreemptVerb != "" }

// IsInterested is true for all pods, or for those asking for a managed resource.
func (e *Extender) IsInterested(pod *v1.Pod) bool {
	if e.managed.Len() == 0 {
		return true
	}
	asks := func(cs []v1.Container) bool {
		for i := range cs {
			for _, l := range []v1.ResourceList{cs[i].Resources.Requests, cs[i].Resources.Limits} {
				for name := range l {
					if e.managed.Has(string(name)) {
						return true
					}
				}
			}
		}
		return false
	}
	return asks(pod.Spec.Containers) || asks(pod.Spec.InitContainers)
}

func (e *Extender) args(pod *v1.Pod, nodes []*framework.NodeInfo) *extenderv1.ExtenderArgs {
	a := &extenderv1.ExtenderArgs{Pod: pod}
	if e.conf.NodeCacheCapable {
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = n.Name()
		}
		a.NodeNames = &names
		return a
	}
	a.Nodes = &v1.NodeList{}
	for _, n := range nodes {
		a.Nodes.Items = append(a.Nodes.Items, *n.Node)
	}
	return a
}

// Filter asks which of the nodes are feasible.
func (e *Extender) Filter(ctx context.Context, pod *v1.Pod, nodes []*framework.NodeInfo) ([]*framework.NodeInfo, map[string]string, map[string]string, error) {
	var r extenderv1.ExtenderFilterResult
	if err := e.send(ctx, e.conf.FilterVerb, e.args(pod, nodes), &r); err != nil {
		return nil, nil, nil, err
	}
	if r.Error != "" {
		return nil, nil, nil, errors.New(r.Error)
	}
	keep := sets.New[string]()
	if e.conf.NodeCacheCapable && r.NodeNames != nil {
		keep.Insert(*r.NodeNames...)
	} else if r.Nodes != nil {
		for i := range r.Nodes.Items {
			keep.Insert(r.Nodes.Items[i].Name)
		}
	}
	var out []*framework.NodeInfo
	for _, n := range nodes {
		if keep.Has(n.Name()) {
			out = append(out, n)
		}
	}
	if len(out) != keep.Len() {
		return nil, nil, nil, fmt.Errorf("extender %q claims a filtered node that is not among those it was asked about", e.conf.URLPrefix)
	}
	return out, r.FailedNodes, r.FailedAndUnresolvableNodes, nil
}

// Prioritize asks for scores from 0 to 10.
func (e *Extender) Prioritize(ctx context.Context, pod *v1.Pod, nodes []*framework.NodeInfo) (map[string]int64, int64, error) {
	var r extenderv1.HostPriorityList
	if err := e.send(ctx, e.conf.PrioritizeVerb, e.args(pod, nodes), &r); err != nil {
		return nil, 0, err
	}
	out := map[string]int64{}
	for _, h := range r {
		out[h.Host] = h.Score
	}
	return out, e.conf.Weight, nil
}

// Bind lets the extender bind.
func (e *Extender) Bind(ctx context.Context, pod *v1.Pod, node string) error {
	var r extenderv1.ExtenderBindingResult
	if err := e.send(ctx, e.conf.BindVerb, &extenderv1.ExtenderBindingArgs{PodName: pod.Name, PodNamespace: pod.Namespace, PodUID: pod.UID, Node: node}, &r); err != nil {
		return err
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

// ProcessPreemption lets the extender strike nodes or victims.
func (e *Extender) ProcessPreemption(ctx context.Context, pod *v1.Pod, victims map[string]*framework.Victims, snap framework.Snapshot) (map[string]*framework.Victims, error) {
	a := &extenderv1.ExtenderPreemptionArgs{Pod: pod}
	if e.conf.NodeCacheCapable {
		a.NodeNameToMetaVictims = map[string]*extenderv1.MetaVictims{}
		for n, v := range victims {
			m := &extenderv1.MetaVictims{NumPDBViolations: v.NumPDBViolations}
			for _, p := range v.Pods {
				m.Pods = append(m.Pods, &extenderv1.MetaPod{UID: string(p.UID)})
			}
			a.NodeNameToMetaVictims[n] = m
		}
	} else {
		a.NodeNameToVictims = map[string]*extenderv1.Victims{}
		for n, v := range victims {
			a.NodeNameToVictims[n] = &extenderv1.Victims{Pods: v.Pods, NumPDBViolations: v.NumPDBViolations}
		}
	}
	var r extenderv1.ExtenderPreemptionResult
	if err := e.send(ctx, e.conf.PreemptVerb, a, &r); err != nil {
		return nil, err
	}
	out := map[string]*framework.Victims{}
	for name, m := range r.NodeNameToMetaVictims {
		node := snap.Node(name)
		if node == nil {
			return nil, fmt.Errorf("extender %q names the unknown node %q", e.conf.URLPrefix, name)
		}
		byUID := map[types.UID]*v1.Pod{}
		for _, p := range node.Pods {
			byUID[p.Pod.UID] = p.Pod
		}
		v := &framework.Victims{NumPDBViolations: m.NumPDBViolations}
		for _, p := range m.Pods {
			found := byUID[types.UID(p.UID)]
			if found == nil {
				return nil, fmt.Errorf("extender %q claims to preempt pod (UID: %s) on node %s, but the pod is not found on that node", e.conf.URLPrefix, p.UID, name)
			}
			v.Pods = append(v.Pods, found)
		}
		out[name] = v
	}
	return out, nil
}

func (e *Extender) send(ctx context.Context, verb string, args, into any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	url := strings.TrimRight(e.conf.URLPrefix, "/") + "/" + verb
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("failed %v with extender at URL %v, code %v", verb, url, resp.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into)
}
