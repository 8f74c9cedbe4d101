package main

import (
	"os"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/util/keyutil"

	"skiff/cluster/featuregates"
	"skiff/controllers"
)

// controllerFlags are kube-controller-manager's flags that a cluster's
// controllerManager.extraArgs may set as well.
type controllerFlags struct {
	controllerOwn

	names                          []string
	elect, allocate                bool
	leaseDuration, renew, retry    time.Duration
	maskSize, maskSize4, maskSize6 int
	signing, grace, period         time.Duration
	gcThreshold                    int
	gates                          featuregates.Gates
}

// controllerOwn are what init and join decide in a cluster.
type controllerOwn struct {
	kubeconfig, clusterCIDR, serviceCIDR, rootCA, signCert, signKey, accountKey string
}

func (o *controllerOwn) add(f *pflag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "/etc/kubernetes/controller-manager.conf", "how the API is reached")
	f.StringVar(&o.clusterCIDR, "cluster-cidr", "", "the pods' range")
	f.StringVar(&o.serviceCIDR, "service-cluster-ip-range", "", "the cluster IPs' range")
	f.StringVar(&o.rootCA, "root-ca-file", "", "the authority that is published to every namespace")
	f.StringVar(&o.signCert, "cluster-signing-cert-file", "", "the authority that signs certificates")
	f.StringVar(&o.signKey, "cluster-signing-key-file", "", "its key")
	f.StringVar(&o.accountKey, "service-account-private-key-file", "", "the key of tokens that are kept in Secrets")
}

func (o *controllerFlags) add(f *pflag.FlagSet, allocate bool) {
	f.BoolVar(&o.elect, "leader-elect", true, "work only while holding the Lease")
	f.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 0, "how long the Lease holds; default 15 s")
	f.DurationVar(&o.renew, "leader-elect-renew-deadline", 0, "how long its holder tries to renew it; default 10 s")
	f.DurationVar(&o.retry, "leader-elect-retry-period", 0, "how often it is tried for; default 2 s")
	f.StringSliceVar(&o.names, "controllers", []string{"*"}, "which controllers run: *, NAME, -NAME")
	f.BoolVar(&o.allocate, "allocate-node-cidrs", allocate, "give each node a part of --cluster-cidr")
	f.IntVar(&o.maskSize, "node-cidr-mask-size", 0, "the size of that part, where there is one family")
	f.IntVar(&o.maskSize4, "node-cidr-mask-size-ipv4", 0, "the size of the IPv4 part; default 24")
	f.IntVar(&o.maskSize6, "node-cidr-mask-size-ipv6", 0, "the size of the IPv6 part; default 64")
	f.DurationVar(&o.signing, "cluster-signing-duration", 0, "the longest life of a certificate; default a year")
	f.DurationVar(&o.grace, "node-monitor-grace-period", 0, "when a node that is silent is lost; default 50 s")
	f.DurationVar(&o.period, "node-monitor-period", 0, "how often nodes are looked at; default 5 s")
	addGates(f, &o.gates)
	f.IntVar(&o.gcThreshold, "terminated-pod-gc-threshold", 0, "how many ended pods are kept; default 12500")
	addInert(f, inertOfControllers())
}

// apply gives the controllers' configuration what the flags say.
func (o *controllerFlags) apply(c *controllers.Config) {
	c.Controllers, c.AllocateNodeCIDRs = o.names, o.allocate
	c.Lease.Duration, c.Lease.RenewDeadline, c.Lease.RetryPeriod = o.leaseDuration, o.renew, o.retry
	c.NodeCIDRMaskSizeIPv4, c.NodeCIDRMaskSizeIPv6 = o.maskSize4, o.maskSize6
	if o.maskSize != 0 && len(c.ClusterCIDRs) == 1 {
		if c.ClusterCIDRs[0].Addr().Is4() {
			c.NodeCIDRMaskSizeIPv4 = o.maskSize
		} else {
			c.NodeCIDRMaskSizeIPv6 = o.maskSize
		}
	}
	c.ClusterSigningDuration, c.NodeMonitorGracePeriod, c.NodeMonitorPeriod, c.TerminatedPodGCThreshold = o.signing, o.grace, o.period, o.gcThreshold
}

// schedulerFlags are kube-scheduler's flags that a cluster's scheduler.extraArgs
// may set as well.
type schedulerFlags struct {
	schedulerOwn

	config string
	elect  bool
	gates  featuregates.Gates
}

type schedulerOwn struct{ kubeconfig string }

func (o *schedulerOwn) add(f *pflag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "/etc/kubernetes/scheduler.conf", "how the API is reached")
}

func (o *schedulerFlags) add(f *pflag.FlagSet) {
	addGates(f, &o.gates)
	f.StringVar(&o.config, "config", "", "a KubeSchedulerConfiguration: profiles and extenders")
	f.BoolVar(&o.elect, "leader-elect", true, "work only while holding the Lease")
	addInert(f, inertOfScheduler())
}

func readFile(path string) (string, error) {
	raw, err := os.ReadFile(path)
	return string(raw), err
}

// publicKeys are the keys of files in PEM.
func publicKeys(files []string) ([]any, error) {
	var out []any
	for _, file := range files {
		keys, err := keyutil.PublicKeysFromFile(file)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
	}
	return out, nil
}
