package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	netutils "k8s.io/utils/net"

	"skiff/cluster/config"
	"skiff/cluster/kubeconfig"
	"skiff/cluster/pki"
	"skiff/cluster/token"
)

// publicCluster is the configuration as every joining node may read it: no
// password of a database, whose whole URL travels encrypted with the
// authorities.
func publicCluster(c config.Cluster) config.Cluster {
	if c.Etcd.External == nil {
		return c
	}
	external := *c.Etcd.External
	external.Endpoints = make([]string, len(c.Etcd.External.Endpoints))
	for i, e := range c.Etcd.External.Endpoints {
		external.Endpoints[i] = redactURL(e)
	}
	c.Etcd.External = &external
	return c
}

// redactURL takes the passwords out of a store's URL. It reads the text itself: the
// several hosts of a database are no URL to net/url when one is an IPv6 address.
func redactURL(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return text
	}
	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		name, _, _ := strings.Cut(authority[:at], ":")
		authority = name + authority[at:]
	}
	path, query, found := strings.Cut(tail, "?")
	if found {
		parameters := slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool {
			key, _, _ := strings.Cut(p, "=")
			if name, err := url.QueryUnescape(key); err == nil {
				key = name
			}
			return key == "password" || key == "sslpassword"
		})
		path += "?" + strings.Join(parameters, "&")
	}
	return scheme + "://" + authority + strings.TrimSuffix(path, "?")
}

func (d *Init) uploadCluster(ctx context.Context) error {
	public := publicCluster(d.Config.Cluster)
	doc, err := config.Marshal(config.ClusterKind, &public)
	if err != nil {
		return err
	}
	return d.store(ctx, "upload-config", "the configuration in ConfigMap "+clusterConfigMap, []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: meta("kube-system", clusterConfigMap), Data: map[string]string{config.ClusterKind: string(doc)}},
	})
}

func (d *Init) uploadKubelet(ctx context.Context) error {
	doc, err := kubeletConfigDoc(&d.Config.Cluster, d.Config.ComponentConfigs["KubeletConfiguration"])
	if err != nil {
		return err
	}
	return d.store(ctx, "upload-config", "the kubelets' configuration in ConfigMap "+kubeletConfigMap, []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: meta("kube-system", kubeletConfigMap), Data: map[string]string{"kubelet": string(doc)}},
	})
}

// store writes objects with the administrator's rights.
func (d *Init) store(ctx context.Context, phase, what string, objects []runtime.Object) error {
	return d.do(phase, "store "+what, func() error {
		client, err := d.admin()
		if err != nil {
			return err
		}
		if err := ensureAll(ctx, client, objects); err != nil {
			return err
		}
		d.say(phase, "Stored %s", what)
		return nil
	})
}

func (d *Init) bootstrapToken(ctx context.Context) error {
	tokens, err := initTokens(d.Config.BootstrapTokens, d.now())
	if err != nil {
		return err
	}
	server, err := ServerURL(&d.Config.Cluster, d.Config.LocalAPIEndpoint)
	if err != nil {
		return err
	}
	objects := bootstrapRules()
	for _, t := range tokens {
		d.tokens = append(d.tokens, t.String())
		objects = append(objects, t.ToSecret())
	}
	if !d.DryRun {
		info, err := clusterInfo(d.Config.Cluster.CertificatesDir, server)
		if err != nil {
			return err
		}
		objects = append(objects, info)
	}
	return d.store(ctx, "bootstrap-token", "the bootstrap token and the rules that let nodes join", objects)
}

// clusterInfo is the ConfigMap that anyone may read; the bootstrap signer adds
// a signature for each token.
func clusterInfo(pkiDir, server string) (*corev1.ConfigMap, error) {
	ca, err := pki.LoadCerts(pkiDir + "/ca.crt")
	if err != nil {
		return nil, err
	}
	cfg := kubeconfig.WithToken("", server, "", "", pki.EncodeCert(ca[0]))
	cfg.AuthInfos, cfg.Contexts, cfg.CurrentContext = nil, nil, ""
	doc, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, err
	}
	return &corev1.ConfigMap{ObjectMeta: meta("kube-public", "cluster-info"), Data: map[string]string{"kubeconfig": string(doc)}}, nil
}

func (d *Init) addonDNS(ctx context.Context) error {
	if d.Config.Cluster.DNS.Disabled {
		return nil
	}
	ips, err := serviceIP(d.Config.Cluster.Networking.ServiceSubnet, 10)
	if err != nil {
		return err
	}
	if err := d.store(ctx, "addons", "the cluster DNS Service", []runtime.Object{dnsService(ips)}); err != nil {
		return err
	}
	return d.do("addons", "store the cluster DNS configuration in ConfigMap "+dnsConfigMap, func() error {
		client, err := d.admin()
		if err != nil {
			return err
		}
		// One that is there is the administrator's.
		_, err = client.CoreV1().ConfigMaps("kube-system").Create(ctx, &corev1.ConfigMap{
			ObjectMeta: meta("kube-system", dnsConfigMap), Data: map[string]string{"Corefile": d.Corefile(d.Config.Cluster.Networking.DNSDomain)},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// addonProxy stores what the proxies of nodes that join later run with.
func (d *Init) addonProxy(ctx context.Context) error {
	if d.Config.Cluster.Proxy.Disabled {
		return nil
	}
	doc := string(d.Config.ComponentConfigs["KubeProxyConfiguration"])
	if doc == "" {
		doc = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
		if d.ProxyMode != "" {
			doc += "mode: " + d.ProxyMode + "\n"
		}
	}
	return d.store(ctx, "addons", "the proxies' configuration in ConfigMap "+proxyConfigMap, []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: meta("kube-system", proxyConfigMap), Data: map[string]string{proxyConfigKey: doc}},
	})
}

func (d *Init) markControlPlane(ctx context.Context) error {
	taints := d.Config.NodeRegistration.Taints
	if taints == nil {
		taints = controlPlaneTaints()
	}
	name := d.Config.NodeRegistration.Name
	return d.do("mark-control-plane", "mark the node "+name+" as control-plane", func() error {
		client, err := d.admin()
		if err != nil {
			return err
		}
		err = markControlPlane(ctx, client, name, taints, d.Config.Timeouts.KubernetesAPICall.Duration)
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("%w: its kubelet has not registered it; the end of the log %s:\n%s", err, d.Layout.ProcessLog(), LogTail(d.Layout))
		}
		return err
	})
}

func controlPlaneTaints() []corev1.Taint {
	return []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
}

// controlPlaneLabels are kubeadm's. A master that takes pods also takes the
// traffic of load balancers: where it is the only node there is no other.
func controlPlaneLabels(taints []corev1.Taint) map[string]string {
	labels := map[string]string{"node-role.kubernetes.io/control-plane": ""}
	if len(taints) > 0 {
		labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
	}
	return labels
}

// markControlPlane labels the node as soon as it has registered. Its taints are
// there from registration on.
func markControlPlane(ctx context.Context, client kubernetes.Interface, name string, taints []corev1.Taint, timeout time.Duration) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": controlPlaneLabels(taints)}})
	if err != nil {
		return err
	}
	err = retry(ctx, timeout, func(ctx context.Context) error {
		_, err := client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("label node %s: %w", name, err)
	}
	return nil
}

// initTokens are the configured tokens, or a new one when there are none.
func initTokens(list []config.BootstrapToken, now time.Time) ([]token.Token, error) {
	if len(list) == 0 {
		t, err := token.New(now, config.DefaultTokenTTL)
		return []token.Token{t}, err
	}
	var out []token.Token
	for _, b := range list {
		t, err := token.Parse(b.Token)
		if err != nil {
			return nil, err
		}
		t.Description = b.Description
		if b.Usages != nil {
			t.Usages = b.Usages
		}
		if b.Groups != nil {
			t.Groups = b.Groups
		}
		switch {
		case b.Expires != nil:
			t.Expires = b.Expires.Time
		case b.TTL != nil && b.TTL.Duration > 0:
			t.Expires = now.Add(b.TTL.Duration)
		}
		out = append(out, t)
	}
	return out, nil
}

// serviceIP is the nth address of each service subnet.
func serviceIP(subnets string, n int) ([]string, error) {
	var out []string
	for _, s := range strings.Split(subnets, ",") {
		_, cidr, err := net.ParseCIDR(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("networking.serviceSubnet: %w", err)
		}
		ip, err := netutils.GetIndexedIP(cidr, n)
		if err != nil {
			return nil, fmt.Errorf("networking.serviceSubnet %s is too small for address %d: %w", s, n, err)
		}
		out = append(out, ip.String())
	}
	return out, nil
}
