// Package config is kubeadm's configuration API, kubeadm.k8s.io/v1beta4:
// its types, defaults and validation. The files that kubeadm reads and writes
// can be read and written here.
package config

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// APIVersion is the version read and written.
const APIVersion = "kubeadm.k8s.io/v1beta4"

// The kinds.
const (
	InitKind    = "InitConfiguration"
	ClusterKind = "ClusterConfiguration"
	JoinKind    = "JoinConfiguration"
	ResetKind   = "ResetConfiguration"
	UpgradeKind = "UpgradeConfiguration"
)

// Init is what `skiff init` needs beyond the cluster's own settings.
type Init struct {
	metav1.TypeMeta  `json:",inline"`
	BootstrapTokens  []BootstrapToken  `json:"bootstrapTokens,omitempty"`
	DryRun           bool              `json:"dryRun,omitempty"`
	NodeRegistration NodeRegistration  `json:"nodeRegistration,omitempty"`
	LocalAPIEndpoint APIEndpoint       `json:"localAPIEndpoint,omitempty"`
	CertificateKey   string            `json:"certificateKey,omitempty"`
	SkipPhases       []string          `json:"skipPhases,omitempty"`
	Patches          *Patches          `json:"patches,omitempty"`
	Timeouts         *Timeouts         `json:"timeouts,omitempty"`
	Cluster          Cluster           `json:"-"`
	ComponentConfigs map[string][]byte `json:"-"`
}

// Cluster holds for every node; it is kept in the ConfigMap kubeadm-config.
type Cluster struct {
	metav1.TypeMeta             `json:",inline"`
	Etcd                        Etcd                  `json:"etcd,omitempty"`
	Networking                  Networking            `json:"networking,omitempty"`
	KubernetesVersion           string                `json:"kubernetesVersion,omitempty"`
	ControlPlaneEndpoint        string                `json:"controlPlaneEndpoint,omitempty"`
	APIServer                   APIServer             `json:"apiServer,omitempty"`
	ControllerManager           ControlPlaneComponent `json:"controllerManager,omitempty"`
	Scheduler                   ControlPlaneComponent `json:"scheduler,omitempty"`
	DNS                         DNS                   `json:"dns,omitempty"`
	Proxy                       Proxy                 `json:"proxy,omitempty"`
	CertificatesDir             string                `json:"certificatesDir,omitempty"`
	ImageRepository             string                `json:"imageRepository,omitempty"`
	FeatureGates                map[string]bool       `json:"featureGates,omitempty"`
	ClusterName                 string                `json:"clusterName,omitempty"`
	EncryptionAlgorithm         string                `json:"encryptionAlgorithm,omitempty"`
	CertificateValidityPeriod   *metav1.Duration      `json:"certificateValidityPeriod,omitempty"`
	CACertificateValidityPeriod *metav1.Duration      `json:"caCertificateValidityPeriod,omitempty"`
}

// Arg is one flag of a component.
type Arg struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ControlPlaneComponent sets flags of a part.
type ControlPlaneComponent struct {
	ExtraArgs    []Arg           `json:"extraArgs,omitempty"`
	ExtraVolumes []HostPathMount `json:"extraVolumes,omitempty"`
	ExtraEnvs    []corev1.EnvVar `json:"extraEnvs,omitempty"`
}

// APIServer sets flags and names of the API server.
type APIServer struct {
	ControlPlaneComponent `json:",inline"`
	CertSANs              []string `json:"certSANs,omitempty"`
}

// HostPathMount is read for compatibility: skiff's parts see the host's files.
type HostPathMount struct {
	Name      string              `json:"name"`
	HostPath  string              `json:"hostPath"`
	MountPath string              `json:"mountPath"`
	ReadOnly  bool                `json:"readOnly,omitempty"`
	PathType  corev1.HostPathType `json:"pathType,omitempty"`
}

// DNS and Proxy can be switched off.
type DNS struct {
	ImageRepository string `json:"imageRepository,omitempty"`
	ImageTag        string `json:"imageTag,omitempty"`
	Disabled        bool   `json:"disabled,omitempty"`
}

// Proxy can be switched off.
type Proxy struct {
	Disabled bool `json:"disabled,omitempty"`
}

// Etcd says where the state is. Local is skiff's own store.
type Etcd struct {
	Local    *LocalEtcd    `json:"local,omitempty"`
	External *ExternalEtcd `json:"external,omitempty"`
}

// LocalEtcd is the embedded store; DataDir is its folder.
type LocalEtcd struct {
	ImageRepository string          `json:"imageRepository,omitempty"`
	ImageTag        string          `json:"imageTag,omitempty"`
	DataDir         string          `json:"dataDir,omitempty"`
	ExtraArgs       []Arg           `json:"extraArgs,omitempty"`
	ExtraEnvs       []corev1.EnvVar `json:"extraEnvs,omitempty"`
	ServerCertSANs  []string        `json:"serverCertSANs,omitempty"`
	PeerCertSANs    []string        `json:"peerCertSANs,omitempty"`
}

// ExternalEtcd is an etcd cluster (https://…) or a database: one endpoint of
// the form postgres://… or sqlite://….
type ExternalEtcd struct {
	Endpoints []string `json:"endpoints"`
	CAFile    string   `json:"caFile,omitempty"`
	CertFile  string   `json:"certFile,omitempty"`
	KeyFile   string   `json:"keyFile,omitempty"`
}

// Networking holds the cluster's address ranges.
type Networking struct {
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	PodSubnet     string `json:"podSubnet,omitempty"`
	DNSDomain     string `json:"dnsDomain,omitempty"`
	// PodBackend is not kubeadm's: how packets between pods of two nodes travel.
	// vxlan, the default, works wherever the nodes reach each other; host-gw routes
	// them as they are, and needs all nodes on one link; wireguard encrypts them, and
	// needs a kernel that can.
	PodBackend string `json:"podBackend,omitempty"`
	// LoadBalancerPool is not kubeadm's: the addresses that Services of type
	// LoadBalancer get, each as FIRST-LAST, a CIDR or one address. Empty: they have
	// those of the nodes.
	LoadBalancerPool []string `json:"loadBalancerPool,omitempty"`
}

// The pod backends.
const (
	BackendVXLAN       = "vxlan"
	BackendHostGateway = "host-gw"
	BackendWireGuard   = "wireguard"
)

// APIEndpoint is where this node's API server listens.
type APIEndpoint struct {
	AdvertiseAddress string `json:"advertiseAddress,omitempty"`
	BindPort         int32  `json:"bindPort,omitempty"`
}

// NodeRegistration is how the node appears. Taints nil means the default:
// control-plane nodes are tainted; an empty list means none.
type NodeRegistration struct {
	Name                  string            `json:"name,omitempty"`
	CRISocket             string            `json:"criSocket,omitempty"`
	Taints                []corev1.Taint    `json:"taints"`
	KubeletExtraArgs      []Arg             `json:"kubeletExtraArgs,omitempty"`
	IgnorePreflightErrors []string          `json:"ignorePreflightErrors,omitempty"`
	ImagePullPolicy       corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	ImagePullSerial       *bool             `json:"imagePullSerial,omitempty"`
}

// BootstrapToken is a token that init creates.
type BootstrapToken struct {
	Token       string           `json:"token"`
	Description string           `json:"description,omitempty"`
	TTL         *metav1.Duration `json:"ttl,omitempty"`
	Expires     *metav1.Time     `json:"expires,omitempty"`
	Usages      []string         `json:"usages,omitempty"`
	Groups      []string         `json:"groups,omitempty"`
}

// Join is what `skiff join` needs.
type Join struct {
	metav1.TypeMeta  `json:",inline"`
	DryRun           bool              `json:"dryRun,omitempty"`
	NodeRegistration NodeRegistration  `json:"nodeRegistration,omitempty"`
	CACertPath       string            `json:"caCertPath,omitempty"`
	Discovery        Discovery         `json:"discovery"`
	ControlPlane     *JoinControlPlane `json:"controlPlane,omitempty"`
	SkipPhases       []string          `json:"skipPhases,omitempty"`
	Patches          *Patches          `json:"patches,omitempty"`
	Timeouts         *Timeouts         `json:"timeouts,omitempty"`
}

// JoinControlPlane makes the joining node a master.
type JoinControlPlane struct {
	LocalAPIEndpoint APIEndpoint `json:"localAPIEndpoint,omitempty"`
	CertificateKey   string      `json:"certificateKey,omitempty"`
}

// Discovery says how the node learns whom to trust.
type Discovery struct {
	BootstrapToken    *BootstrapTokenDiscovery `json:"bootstrapToken,omitempty"`
	File              *FileDiscovery           `json:"file,omitempty"`
	TLSBootstrapToken string                   `json:"tlsBootstrapToken,omitempty"`
}

// BootstrapTokenDiscovery trusts what is signed with the token, and pinned.
type BootstrapTokenDiscovery struct {
	Token                    string   `json:"token"`
	APIServerEndpoint        string   `json:"apiServerEndpoint,omitempty"`
	CACertHashes             []string `json:"caCertHashes,omitempty"`
	UnsafeSkipCAVerification bool     `json:"unsafeSkipCAVerification,omitempty"`
}

// FileDiscovery trusts a kubeconfig file.
type FileDiscovery struct {
	KubeConfigPath string `json:"kubeConfigPath"`
}

// Patches is kubeadm's patch folder; a file there may be for
// kubeletconfiguration, the only component of skiff's with a manifest.
type Patches struct {
	Directory string `json:"directory,omitempty"`
}

// Timeouts are how long the phases wait.
type Timeouts struct {
	ControlPlaneComponentHealthCheck *metav1.Duration `json:"controlPlaneComponentHealthCheck,omitempty"`
	KubeletHealthCheck               *metav1.Duration `json:"kubeletHealthCheck,omitempty"`
	KubernetesAPICall                *metav1.Duration `json:"kubernetesAPICall,omitempty"`
	EtcdAPICall                      *metav1.Duration `json:"etcdAPICall,omitempty"`
	TLSBootstrap                     *metav1.Duration `json:"tlsBootstrap,omitempty"`
	Discovery                        *metav1.Duration `json:"discovery,omitempty"`
	UpgradeManifests                 *metav1.Duration `json:"upgradeManifests,omitempty"`
}

// Reset is what `skiff reset` needs.
type Reset struct {
	metav1.TypeMeta       `json:",inline"`
	CleanupTmpDir         bool      `json:"cleanupTmpDir,omitempty"`
	CertificatesDir       string    `json:"certificatesDir,omitempty"`
	CRISocket             string    `json:"criSocket,omitempty"`
	DryRun                bool      `json:"dryRun,omitempty"`
	Force                 bool      `json:"force,omitempty"`
	IgnorePreflightErrors []string  `json:"ignorePreflightErrors,omitempty"`
	SkipPhases            []string  `json:"skipPhases,omitempty"`
	UnmountFlags          []string  `json:"unmountFlags,omitempty"`
	Timeouts              *Timeouts `json:"timeouts,omitempty"`
}
