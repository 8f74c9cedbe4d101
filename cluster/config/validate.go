package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"skiff/cluster/pki"
)

// ValidateInit returns every error of a defaulted configuration.
func ValidateInit(c *Init) field.ErrorList {
	errs := validateNode(&c.NodeRegistration, field.NewPath("nodeRegistration"))
	errs = append(errs, validateEndpoint(&c.LocalAPIEndpoint, field.NewPath("localAPIEndpoint"))...)
	for i, t := range c.BootstrapTokens {
		path := field.NewPath("bootstrapTokens").Index(i)
		if !bootstraputil.IsValidBootstrapToken(t.Token) {
			errs = append(errs, field.Invalid(path.Child("token"), "", "the bootstrap token is not of the form [a-z0-9]{6}.[a-z0-9]{16}"))
		}
		if err := bootstraputil.ValidateUsages(t.Usages); err != nil {
			errs = append(errs, field.Invalid(path.Child("usages"), t.Usages, err.Error()))
		}
		for j, group := range t.Groups {
			if err := bootstraputil.ValidateBootstrapGroupName(group); err != nil {
				errs = append(errs, field.Invalid(path.Child("groups").Index(j), group, err.Error()))
			}
		}
		if t.TTL != nil && t.Expires != nil {
			errs = append(errs, field.Invalid(path.Child("ttl"), t.TTL.String(), "only one of ttl and expires may be set"))
		}
	}
	errs = append(errs, validateCertificateKey(c.CertificateKey, field.NewPath("certificateKey"))...)
	return append(errs, ValidateCluster(&c.Cluster)...)
}

// ValidateCluster returns every error of a defaulted configuration.
func ValidateCluster(c *Cluster) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("networking")
	services := validateSubnets(c.Networking.ServiceSubnet, path.Child("serviceSubnet"), &errs)
	pods := validateSubnets(c.Networking.PodSubnet, path.Child("podSubnet"), &errs)
	for _, s := range services {
		if ones, bits := s.Mask.Size(); bits-ones > 20 && bits == 128 {
			errs = append(errs, field.Invalid(path.Child("serviceSubnet"), s.String(), "is too large: use /108 or smaller for IPv6"))
		}
		for _, p := range pods {
			if s.Contains(p.IP) || p.Contains(s.IP) {
				errs = append(errs, field.Invalid(path.Child("podSubnet"), p.String(), fmt.Sprintf("overlaps serviceSubnet %s", s)))
			}
		}
	}
	for _, msg := range validation.IsDNS1123Subdomain(c.Networking.DNSDomain) {
		errs = append(errs, field.Invalid(path.Child("dnsDomain"), c.Networking.DNSDomain, msg))
	}
	if known := []string{BackendVXLAN, BackendHostGateway, BackendWireGuard}; c.Networking.PodBackend != "" && !slices.Contains(known, c.Networking.PodBackend) {
		errs = append(errs, field.NotSupported(path.Child("podBackend"), c.Networking.PodBackend, known))
	}
	if e := c.ControlPlaneEndpoint; e != "" {
		if _, _, err := SplitEndpoint(e, DefaultBindPort); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("controlPlaneEndpoint"), e, err.Error()))
		}
	}
	for i, san := range c.APIServer.CertSANs {
		if net.ParseIP(san) == nil && len(validation.IsDNS1123Subdomain(san)) > 0 && len(validation.IsWildcardDNS1123Subdomain(san)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("apiServer", "certSANs").Index(i), san, "must be an IP address or a DNS name"))
		}
	}
	if alg := c.EncryptionAlgorithm; alg != "" {
		known := make([]string, 0, 5)
		ok := false
		for _, a := range pki.Algorithms() {
			known = append(known, string(a))
			ok = ok || string(a) == alg
		}
		if !ok {
			errs = append(errs, field.NotSupported(field.NewPath("encryptionAlgorithm"), alg, known))
		}
	}
	return append(errs, validateStore(&c.Etcd, field.NewPath("etcd"))...)
}

// ValidateJoin returns every error of a defaulted configuration.
func ValidateJoin(c *Join) field.ErrorList {
	errs := validateNode(&c.NodeRegistration, field.NewPath("nodeRegistration"))
	path := field.NewPath("discovery")
	d := c.Discovery
	switch {
	case d.BootstrapToken == nil && d.File == nil:
		errs = append(errs, field.Invalid(path, "", "bootstrapToken or file must be set: give --token and --discovery-token-ca-cert-hash, or --discovery-file"))
	case d.BootstrapToken != nil && d.File != nil:
		errs = append(errs, field.Invalid(path, "", "bootstrapToken and file cannot both be set"))
	}
	if bt := d.BootstrapToken; bt != nil {
		path := path.Child("bootstrapToken")
		if !bootstraputil.IsValidBootstrapToken(bt.Token) {
			errs = append(errs, field.Invalid(path.Child("token"), "", "the bootstrap token is not of the form [a-z0-9]{6}.[a-z0-9]{16}"))
		}
		if _, _, err := SplitEndpoint(bt.APIServerEndpoint, DefaultBindPort); err != nil {
			errs = append(errs, field.Invalid(path.Child("apiServerEndpoint"), bt.APIServerEndpoint, err.Error()))
		}
		if len(bt.CACertHashes) == 0 && !bt.UnsafeSkipCAVerification {
			errs = append(errs, field.Invalid(path.Child("caCertHashes"), "", "using token-based discovery without caCertHashes can be unsafe: give --discovery-token-ca-cert-hash, or set --discovery-token-unsafe-skip-ca-verification as true to go on"))
		}
		for i, hash := range bt.CACertHashes {
			if kind, sum, ok := strings.Cut(hash, ":"); !ok || kind != "sha256" {
				errs = append(errs, field.Invalid(path.Child("caCertHashes").Index(i), hash, `must be of the form "sha256:" and 64 hexadecimal digits`))
			} else if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
				errs = append(errs, field.Invalid(path.Child("caCertHashes").Index(i), hash, `must be of the form "sha256:" and 64 hexadecimal digits`))
			}
		}
	}
	if d.File != nil && d.File.KubeConfigPath == "" {
		errs = append(errs, field.Required(path.Child("file", "kubeConfigPath"), "the path of a kubeconfig file"))
	}
	if cp := c.ControlPlane; cp != nil {
		path := field.NewPath("controlPlane")
		errs = append(errs, validateEndpoint(&cp.LocalAPIEndpoint, path.Child("localAPIEndpoint"))...)
		errs = append(errs, validateCertificateKey(cp.CertificateKey, path.Child("certificateKey"))...)
	}
	return errs
}

func validateNode(n *NodeRegistration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(n.Name) {
		errs = append(errs, field.Invalid(path.Child("name"), n.Name, msg))
	}
	for i, t := range n.Taints {
		for _, msg := range validation.IsQualifiedName(t.Key) {
			errs = append(errs, field.Invalid(path.Child("taints").Index(i).Child("key"), t.Key, msg))
		}
	}
	if u, err := url.Parse(n.CRISocket); err != nil || u.Scheme != "unix" || u.Path == "" {
		errs = append(errs, field.Invalid(path.Child("criSocket"), n.CRISocket, "must be of the form unix:///path"))
	}
	return errs
}

func validateEndpoint(e *APIEndpoint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if net.ParseIP(e.AdvertiseAddress) == nil {
		errs = append(errs, field.Invalid(path.Child("advertiseAddress"), e.AdvertiseAddress, "must be an IP address of this machine; give --apiserver-advertise-address"))
	}
	for _, msg := range validation.IsValidPortNum(int(e.BindPort)) {
		errs = append(errs, field.Invalid(path.Child("bindPort"), e.BindPort, msg))
	}
	return errs
}

func validateCertificateKey(key string, path *field.Path) field.ErrorList {
	if key == "" {
		return nil
	}
	if raw, err := hex.DecodeString(key); err != nil || len(raw) != 32 {
		return field.ErrorList{field.Invalid(path, "", "must be 32 bytes in hexadecimal, as `skiff certs certificate-key` prints")}
	}
	return nil
}

func validateSubnets(text string, path *field.Path, errs *field.ErrorList) []*net.IPNet {
	var nets []*net.IPNet
	for _, part := range strings.Split(text, ",") {
		ip, n, err := net.ParseCIDR(part)
		if err != nil {
			*errs = append(*errs, field.Invalid(path, text, "couldn't parse subnet: must be a CIDR such as 10.244.0.0/16, or one of each family separated by a comma"))
			continue
		}
		if !ip.Equal(n.IP) {
			*errs = append(*errs, field.Invalid(path, text, fmt.Sprintf("has host bits set: write %s", n)))
		}
		nets = append(nets, n)
	}
	if len(nets) > 2 || (len(nets) == 2 && (nets[0].IP.To4() == nil) == (nets[1].IP.To4() == nil)) {
		*errs = append(*errs, field.Invalid(path, text, "expected one (IPv4 or IPv6) CIDR or two CIDRs from each family for dual-stack networking"))
	}
	return nets
}

func validateStore(e *Etcd, path *field.Path) field.ErrorList {
	if e.External == nil {
		return nil
	}
	var errs field.ErrorList
	path = path.Child("external", "endpoints")
	if e.Local != nil {
		errs = append(errs, field.Invalid(field.NewPath("etcd"), "", "local and external are mutually exclusive"))
	}
	if len(e.External.Endpoints) == 0 {
		errs = append(errs, field.Required(path, "https://… of an etcd, or one postgres://… or sqlite://… URL"))
	}
	for i, text := range e.External.Endpoints {
		// The URL may hold a password: do not repeat it.
		scheme, _, found := strings.Cut(text, ":")
		if !found {
			errs = append(errs, field.Invalid(path.Index(i), "", "is not a URL"))
			continue
		}
		switch scheme {
		case "http", "https":
			if _, err := url.Parse(text); err != nil {
				errs = append(errs, field.Invalid(path.Index(i), "", "is not a URL"))
			}
		case "postgres", "postgresql", "sqlite":
			if len(e.External.Endpoints) > 1 {
				errs = append(errs, field.Invalid(path, len(e.External.Endpoints), "a database takes one URL; name several hosts inside it"))
			}
		default:
			errs = append(errs, field.NotSupported(path.Index(i), scheme, []string{"http", "https", "postgres", "sqlite"}))
		}
	}
	return errs
}

// SplitEndpoint splits host[:port]; without a port it is defaultPort.
func SplitEndpoint(endpoint string, defaultPort int) (host, port string, err error) {
	host, port, err = net.SplitHostPort(endpoint)
	if err != nil {
		host, port = strings.Trim(endpoint, "[]"), fmt.Sprint(defaultPort)
	}
	if net.ParseIP(host) == nil && len(validation.IsDNS1123Subdomain(strings.ToLower(host))) > 0 {
		return "", "", fmt.Errorf("host %q is neither an IP address nor a DNS name; want host:port", host)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", "", fmt.Errorf("port %q is not valid", port)
	}
	return host, port, nil
}
