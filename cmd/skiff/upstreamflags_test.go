package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// parts declare the flags of each part as its command does.
var flagsOfParts = map[string]func(*pflag.FlagSet){
	"kube-apiserver": func(f *pflag.FlagSet) {
		var o apiserverFlags
		o.apiserverOwn.add(f)
		o.add(f)
	},
	"kube-controller-manager": func(f *pflag.FlagSet) {
		var o controllerFlags
		o.controllerOwn.add(f)
		o.add(f, false)
	},
	"kube-scheduler": func(f *pflag.FlagSet) {
		var o schedulerFlags
		o.schedulerOwn.add(f)
		o.add(f)
	},
}

// What kubeadm writes into its static pods, and what test suites start servers with.
func TestUpstreamCommandLines(t *testing.T) {
	for name, line := range map[string]string{
		"kubeadm's server": `kube-apiserver --advertise-address=10.0.0.1 --allow-privileged=true --authorization-mode=Node,RBAC --client-ca-file=/pki/ca.crt
			--enable-admission-plugins=NodeRestriction --enable-bootstrap-token-auth=true --etcd-cafile=/pki/etcd/ca.crt --etcd-certfile=/pki/c.crt --etcd-keyfile=/pki/c.key
			--etcd-servers=https://127.0.0.1:2379 --kubelet-client-certificate=/pki/k.crt --kubelet-client-key=/pki/k.key
			--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname --proxy-client-cert-file=/pki/f.crt --proxy-client-key-file=/pki/f.key
			--requestheader-allowed-names=front-proxy-client --requestheader-client-ca-file=/pki/fca.crt --requestheader-extra-headers-prefix=X-Remote-Extra-
			--requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User --secure-port=6443
			--service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file=/pki/sa.pub --service-account-signing-key-file=/pki/sa.key
			--service-cluster-ip-range=10.96.0.0/12 --tls-cert-file=/pki/a.crt --tls-private-key-file=/pki/a.key`,
		"a test suite's server": `kube-apiserver --advertise-address=127.0.0.1 --service-cluster-ip-range=10.0.0.0/24 --allow-privileged=true --disable-admission-plugins=ServiceAccount
			--bind-address=127.0.0.1 --cert-dir=/tmp/certs --authorization-mode=RBAC --etcd-servers=http://127.0.0.1:1 --secure-port=1 --service-account-issuer=https://127.0.0.1:1/
			--service-account-key-file=/tmp/certs/sa.crt --service-account-signing-key-file=/tmp/certs/sa.key --client-ca-file=/tmp/certs/ca.crt`,
		"a tuned server": `kube-apiserver --allow-privileged --profiling=false --event-ttl=2h --min-request-timeout=300 --watch-cache --default-watch-cache-size=500 --tls-min-version=VersionTLS13
			--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 --api-audiences=a,b --service-account-issuer=https://a --service-account-issuer=https://b
			--etcd-compaction-interval=5m --etcd-prefix=/registry --storage-backend=etcd3 --enable-aggregator-routing --shutdown-delay-duration=5s --audit-log-format=json
			--service-account-lookup=true --service-account-max-token-expiration=24h --tls-sni-cert-key=a.crt,a.key:a.example.com --vmodule=a=3`,
		"kubeadm's controllers": `kube-controller-manager --allocate-node-cidrs=true --authentication-kubeconfig=/a --authorization-kubeconfig=/a --bind-address=127.0.0.1 --client-ca-file=/c
			--cluster-cidr=10.244.0.0/16 --cluster-name=kubernetes --cluster-signing-cert-file=/c --cluster-signing-key-file=/k --controllers=*,bootstrapsigner,tokencleaner
			--kubeconfig=/a --leader-elect=true --requestheader-client-ca-file=/f --root-ca-file=/c --service-account-private-key-file=/s --service-cluster-ip-range=10.96.0.0/12
			--use-service-account-credentials=true`,
		"tuned controllers":   `kube-controller-manager --concurrent-deployment-syncs=10 --node-monitor-grace-period=40s --node-eviction-rate=0.2 --profiling=false --kube-api-qps=100 --terminated-pod-gc-threshold=10`,
		"kubeadm's scheduler": `kube-scheduler --authentication-kubeconfig=/a --authorization-kubeconfig=/a --bind-address=127.0.0.1 --kubeconfig=/a --leader-elect=true`,
	} {
		t.Run(name, func(t *testing.T) {
			fields := strings.Fields(line)
			f := pflag.NewFlagSet(fields[0], pflag.ContinueOnError)
			flagsOfParts[fields[0]](f)
			if err := f.Parse(fields[1:]); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInertFlags(t *testing.T) {
	for name, tc := range map[string]struct{ part, arg, err, warning string }{
		"what skiff does anyhow":       {"kube-apiserver", "--allow-privileged=true", "", ""},
		"what it does not":             {"kube-apiserver", "--allow-privileged=false", "Pod Security", ""},
		"what would weaken the server": {"kube-apiserver", "--egress-selector-config-file=/e", "without a proxy", ""},
		"what does not matter":         {"kube-apiserver", "--kubelet-timeout=5s", "", "kubelet-timeout"},
		"what nobody knows":            {"kube-apiserver", "--no-such-flag=1", "unknown flag", ""},
		"a legacy cloud":               {"kube-controller-manager", "--cloud-provider=aws", "outside", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := pflag.NewFlagSet(tc.part, pflag.ContinueOnError)
			flagsOfParts[tc.part](f)
			err := f.Parse([]string{tc.arg})
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			var log bytes.Buffer
			warnInert(f, slog.New(slog.NewTextHandler(&log, nil)))
			if got := log.String(); (got == "") != (tc.warning == "") || !strings.Contains(got, tc.warning) {
				t.Errorf("logged %q, want %q", got, tc.warning)
			}
		})
	}
}
