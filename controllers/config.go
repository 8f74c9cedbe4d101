package controllers

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/clock"
)

// Config is what the controllers need.
type Config struct {
	// RESTFor gives the API access of a controller's own identity,
	// system:serviceaccount:kube-system:<name>; the empty name stands for
	// system:kube-controller-manager itself. Required.
	RESTFor func(name string) *rest.Config
	// Informers is the shared factory, which Run starts. Default: one of its own
	// under system:kube-controller-manager.
	Informers informers.SharedInformerFactory
	// Controllers picks by name as kube-controller-manager's flag does: "*" for
	// all that are on by default, "name" and "-name". Default: "*".
	Controllers []string
	// LeaderElect makes Run wait for the Lease and stop with it.
	LeaderElect bool
	// Lease is the lock of the election.
	Lease Lease

	// AllocateNodeCIDRs gives each node a part of ClusterCIDRs.
	AllocateNodeCIDRs bool
	ClusterCIDRs      []netip.Prefix
	ServiceCIDRs      []netip.Prefix
	// NodeCIDRMaskSizeIPv4 and NodeCIDRMaskSizeIPv6 are the size of that part.
	// Default: 24 and 64.
	NodeCIDRMaskSizeIPv4, NodeCIDRMaskSizeIPv6 int

	// RootCAFile is published to every namespace. Empty: nothing is published.
	RootCAFile string
	// ClusterSigningCertFile and ClusterSigningKeyFile issue certificates. Empty:
	// none are issued.
	ClusterSigningCertFile, ClusterSigningKeyFile string
	// ClusterSigningDuration is the longest validity. Default: a year.
	ClusterSigningDuration time.Duration
	// ServiceAccountKeyFile signs tokens that are kept in Secrets. Empty: none.
	ServiceAccountKeyFile string

	// Provisioner is the built-in provisioner of local volumes.
	Provisioner Provisioner

	// NodeMonitorGracePeriod and NodeMonitorPeriod tell when a silent node is
	// lost. Default: 50 s and 5 s.
	NodeMonitorGracePeriod, NodeMonitorPeriod time.Duration
	// TerminatedPodGCThreshold is how many ended pods are kept. Default: 12500.
	TerminatedPodGCThreshold int

	// Clock tells time. Default: the real clock.
	Clock clock.WithTicker
}

// Lease is the lock of the election.
type Lease struct {
	// Namespace and Name. Default: kube-system/kube-controller-manager.
	Namespace, Name string
	// Identity of this candidate. Required when electing.
	Identity string
	// Duration, RenewDeadline and RetryPeriod. Default: 15 s, 10 s, 2 s.
	Duration, RenewDeadline, RetryPeriod time.Duration
}

func (l *Lease) setDefaults() {
	setDefault(&l.Namespace, "kube-system")
	setDefault(&l.Duration, 15*time.Second)
	setDefault(&l.RenewDeadline, 10*time.Second)
	setDefault(&l.RetryPeriod, 2*time.Second)
}

// Provisioner is the built-in provisioner of local volumes.
type Provisioner struct {
	// Name that storage classes use. Default: skiff.io/local-path.
	Name string
	// Directory on the nodes under which volumes are made. Empty: off.
	Directory string
}

// material is what the files of the configuration hold.
type material struct {
	rootCA     []byte
	signCert   *x509.Certificate
	signKey    crypto.Signer
	accountKey crypto.Signer
}

func (c Config) complete() (Config, material, error) {
	var errs []error
	if c.RESTFor == nil {
		errs = append(errs, errors.New("controllers: RESTFor is nil: give the API access of each controller"))
	}
	if c.LeaderElect && c.Lease.Identity == "" {
		errs = append(errs, errors.New("controllers: Lease.Identity is empty: give a name that no other candidate has"))
	}
	if len(c.Controllers) == 0 {
		c.Controllers = []string{"*"}
	}
	for _, name := range c.Controllers {
		plain := strings.TrimPrefix(name, "-")
		if name != "*" && !slices.ContainsFunc(list(), func(e entry) bool { return e.is(plain) }) {
			errs = append(errs, fmt.Errorf("controllers: %q is not in the list of known controllers", plain))
		}
	}
	setDefault(&c.Lease.Name, "kube-controller-manager")
	c.Lease.setDefaults()
	setDefault(&c.NodeCIDRMaskSizeIPv4, 24)
	setDefault(&c.NodeCIDRMaskSizeIPv6, 64)
	setDefault(&c.ClusterSigningDuration, 365*24*time.Hour)
	setDefault(&c.Provisioner.Name, "skiff.io/local-path")
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	m, err := c.read()
	return c, m, errors.Join(append(errs, err)...)
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (c Config) read() (m material, err error) {
	var errs []error
	if c.RootCAFile != "" {
		if m.rootCA, err = os.ReadFile(c.RootCAFile); err != nil {
			errs = append(errs, fmt.Errorf("controllers: RootCAFile: %w", err))
		}
	}
	if (c.ClusterSigningCertFile == "") != (c.ClusterSigningKeyFile == "") {
		errs = append(errs, fmt.Errorf("controllers: ClusterSigningCertFile is %q and ClusterSigningKeyFile %q: give both or none", c.ClusterSigningCertFile, c.ClusterSigningKeyFile))
	} else if c.ClusterSigningCertFile != "" {
		certs, err := cert.CertsFromFile(c.ClusterSigningCertFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("controllers: ClusterSigningCertFile: %w", err))
		} else {
			m.signCert = certs[0]
		}
		if m.signKey, err = readKey(c.ClusterSigningKeyFile); err != nil {
			errs = append(errs, fmt.Errorf("controllers: ClusterSigningKeyFile: %w", err))
		}
	}
	if c.ServiceAccountKeyFile != "" {
		if m.accountKey, err = readKey(c.ServiceAccountKeyFile); err != nil {
			errs = append(errs, fmt.Errorf("controllers: ServiceAccountKeyFile: %w", err))
		}
	}
	return m, errors.Join(errs...)
}

func readKey(file string) (crypto.Signer, error) {
	key, err := keyutil.PrivateKeyFromFile(file)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, which cannot sign: give an RSA or ECDSA private key", file, key)
	}
	return signer, nil
}
