package podnet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// maxHostname is what the kernel accepts for a host name.
const maxHostname = 63

// Hostname returns the pod's host name and, when it has a subdomain, its
// domain. With setHostnameAsFQDN the host name is the full name.
func Hostname(pod *v1.Pod, clusterDomain string) (hostname, domain string, err error) {
	name := pod.Name
	if pod.Spec.HostnameOverride != nil && *pod.Spec.HostnameOverride != "" {
		return *pod.Spec.HostnameOverride, "", nil
	}
	if pod.Spec.Hostname != "" {
		if msgs := validation.IsDNS1123Label(pod.Spec.Hostname); len(msgs) > 0 {
			return "", "", fmt.Errorf("pod Hostname %q is not a valid DNS label: %s", pod.Spec.Hostname, strings.Join(msgs, ";"))
		}
		name = pod.Spec.Hostname
	} else if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	if pod.Spec.Subdomain != "" {
		if msgs := validation.IsDNS1123Label(pod.Spec.Subdomain); len(msgs) > 0 {
			return "", "", fmt.Errorf("pod Subdomain %q is not a valid DNS label: %s", pod.Spec.Subdomain, strings.Join(msgs, ";"))
		}
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && domain != "" {
		full := name + "." + domain
		if len(full) > 64 {
			return "", "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", full, len(full))
		}
		return full, domain, nil
	}
	return name, domain, nil
}

// HostsContent is the text of the pod's /etc/hosts. hostFile is the host's
// own, which pods on the host's network see.
func HostsContent(pod *v1.Pod, podIPs []string, hostname, domain string, hostFile []byte) []byte {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(hostFile)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n")
		b.WriteString("127.0.0.1\tlocalhost\n")
		b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
		b.WriteString("fe00::0\tip6-localnet\n")
		b.WriteString("fe00::0\tip6-mcastprefix\n")
		b.WriteString("fe00::1\tip6-allnodes\n")
		b.WriteString("fe00::2\tip6-allrouters\n")
		short, _, _ := strings.Cut(hostname, ".")
		for _, ip := range podIPs {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, short, domain, short)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return []byte(b.String())
}

// WriteHosts writes the pod's hosts file into dir and returns its path. The
// file is written in place, since containers have it mounted.
func WriteHosts(dir string, pod *v1.Pod, podIPs []string, hostname, domain string) (string, error) {
	var hostFile []byte
	if pod.Spec.HostNetwork {
		var err error
		if hostFile, err = os.ReadFile("/etc/hosts"); err != nil && !os.IsNotExist(err) {
			return "", err
		}
	}
	path := filepath.Join(dir, "etc-hosts")
	content := HostsContent(pod, podIPs, hostname, domain, hostFile)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return "", fmt.Errorf("write hosts file of pod: %w", err)
	}
	// A container may have changed the mode by way of its mount.
	return path, os.Chmod(path, 0o644)
}
