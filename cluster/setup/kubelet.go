package setup

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"skiff/cluster/config"
	"skiff/cluster/layout"
)

// kubeletConfigFile is where kubeadm writes the kubelet's configuration.
func kubeletConfigFile(l layout.Layout) string { return filepath.Join(l.Kubelet(), "config.yaml") }

// kubeletConfigDoc is the KubeletConfiguration that all nodes share: what the
// person gave, with the cluster's own settings where they gave none. It names no
// path, since each node has a root of its own.
func kubeletConfigDoc(cluster *config.Cluster, given []byte) ([]byte, error) {
	doc, err := kubeletMap(given)
	if err != nil {
		return nil, err
	}
	dns, err := serviceIP(cluster.Networking.ServiceSubnet, 10)
	if err != nil {
		return nil, err
	}
	setMissing(doc, "clusterDNS", dns)
	setMissing(doc, "clusterDomain", cluster.Networking.DNSDomain)
	setMissing(doc, "rotateCertificates", true)
	setMissing(doc, "serverTLSBootstrap", true)
	setMissing(doc, "cgroupDriver", "cgroupfs")
	// A machine with swap is a node as well: its pods have none of it, unless
	// memorySwap says so.
	setMissing(doc, "failSwapOn", false)
	// Of today's disks the kubelet's own 10 and 15 percent are tens of GiB: a
	// machine with much else on it would lose its pods.
	setMissing(doc, "evictionHard", map[string]any{
		"memory.available": "100Mi", "nodefs.available": "5%", "nodefs.inodesFree": "5%", "imagefs.available": "5%", "imagefs.inodesFree": "5%",
	})
	return yaml.Marshal(doc)
}

func kubeletMap(given []byte) (map[string]any, error) {
	doc := map[string]any{}
	if len(given) > 0 {
		if err := yaml.Unmarshal(given, &doc); err != nil {
			return nil, fmt.Errorf("KubeletConfiguration: %w", err)
		}
	}
	doc["apiVersion"], doc["kind"] = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
	return doc, nil
}

func setMissing(doc map[string]any, key string, value any) {
	if _, ok := doc[key]; !ok {
		doc[key] = value
	}
}

// writeKubeletConfig writes the node's own copy, with the node's paths in it.
func writeKubeletConfig(l layout.Layout, cluster *config.Cluster, given []byte) error {
	shared, err := kubeletConfigDoc(cluster, given)
	if err != nil {
		return err
	}
	doc, err := kubeletMap(shared)
	if err != nil {
		return err
	}
	setMissing(doc, "staticPodPath", l.Manifests())
	authentication, _ := doc["authentication"].(map[string]any)
	if authentication == nil {
		authentication = map[string]any{}
		doc["authentication"] = authentication
	}
	setMissing(authentication, "x509", map[string]any{"clientCAFile": filepath.Join(l.PKI(), "ca.crt")})
	setMissing(authentication, "anonymous", map[string]any{"enabled": false})
	setMissing(authentication, "webhook", map[string]any{"enabled": true})
	setMissing(doc, "authorization", map[string]any{"mode": "Webhook"})
	data, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	for _, dir := range []string{l.Kubelet(), l.Manifests()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return replaceFile(kubeletConfigFile(l), data)
}

// replaceFile writes path as a whole, readable by root alone.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
