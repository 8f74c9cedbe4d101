package main

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"skiff/apiserver"
	"skiff/apiserver/authz"
	"skiff/cluster/config"
	"skiff/cluster/pki"
	"skiff/controllers"
)

func TestExtraArgs(t *testing.T) {
	var o apiserverFlags
	flags := pflag.NewFlagSet("apiServer", pflag.ContinueOnError)
	o.add(flags)
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	err := extraArgs(flags, []config.Arg{
		{Name: "audit-policy-file", Value: "/p"}, {Name: "enable-admission-plugins", Value: "A,B"}, {Name: "max-requests-inflight", Value: "7"},
		{Name: "service-node-port-range", Value: "31000-31999"}, {Name: "oidc-issuer-url", Value: "https://i/"}, {Name: "oidc-client-id", Value: "me"},
		{Name: "feature-gates", Value: "WatchList=false"}, {Name: "authorization-mode", Value: "Node,RBAC,Webhook"},
		{Name: "authorization-webhook-config-file", Value: "/h"}, {Name: "authorization-webhook-version", Value: "v1"},
		{Name: "authorization-webhook-cache-authorized-ttl", Value: "1m"}, {Name: "authorization-webhook-cache-unauthorized-ttl", Value: "0s"},
		{Name: "request-timeout", Value: "9s"}, {Name: "secure-port", Value: "1"}, {Name: "no-such-flag", Value: "x"},
	}, "apiServer", o.apiserverOwn.add, log)
	if err != nil {
		t.Fatal(err)
	}
	var c apiserver.Config
	if err := o.apply(&c); err != nil {
		t.Fatal(err)
	}
	if c.AuditPolicyFile != "/p" || len(o.enable) != 2 || c.MaxRequestsInFlight != 7 || c.NodePortMin != 31000 || c.NodePortMax != 31999 || c.RequestTimeout != 9*time.Second {
		t.Errorf("the flags did not arrive: %+v", c)
	}
	if d := cmp.Diff(&authz.WebhookConfig{KubeconfigFile: "/h", Version: "v1", AuthorizedTTL: time.Minute}, c.AuthorizationWebhook); d != "" || len(c.AuthorizationModes) != 3 {
		t.Errorf("authorization %v: %s", c.AuthorizationModes, d)
	}
	if o.gates.String() != "WatchList=false" {
		t.Errorf("gates %s", o.gates.String())
	}
	if j := c.OIDC; j == nil || j.Issuer.Audiences[0] != "me" || *j.ClaimMappings.Username.Prefix != "https://i/#" {
		t.Errorf("issuer %+v", j)
	}
	for _, want := range []string{"name=secure-port", "the cluster's own configuration decides it", "name=no-such-flag", "skiff has no such setting"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log lacks %q: %s", want, said.String())
		}
	}
	if err := extraArgs(flags, []config.Arg{{Name: "max-requests-inflight", Value: "many"}}, "apiServer", o.apiserverOwn.add, log); err == nil {
		t.Error("a number that is none is taken")
	}
}

func TestControllerArgs(t *testing.T) {
	var o controllerFlags
	flags := pflag.NewFlagSet("controllerManager", pflag.ContinueOnError)
	o.add(flags, true)
	err := extraArgs(flags, []config.Arg{{Name: "node-cidr-mask-size", Value: "25"}, {Name: "node-monitor-grace-period", Value: "20s"}, {Name: "controllers", Value: "*,-ttl"}},
		"controllerManager", o.controllerOwn.add, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := controllers.Config{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	o.apply(&c)
	if c.NodeCIDRMaskSizeIPv4 != 25 || c.NodeMonitorGracePeriod != 20*time.Second || len(c.Controllers) != 2 || !c.AllocateNodeCIDRs {
		t.Errorf("the flags did not arrive: %+v", c)
	}
}

// TestKubeletTLS: kubelets are checked, unless the flag says by nothing.
//
// Covers: api.kubelet-tls
func TestKubeletTLS(t *testing.T) {
	dir := t.TempDir()
	if err := pki.Ensure(dir, pki.Config{APIServerNames: []string{"localhost"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.crt")
	if _, err := os.Stat(ca); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		old  bool // the cluster's authority does not sign kubelets' certificates
		skip bool
	}{
		"as it is":                       {nil, false, false},
		"another authority":              {[]string{"--kubelet-certificate-authority=" + ca}, false, false},
		"turned off":                     {[]string{"--kubelet-certificate-authority="}, false, true},
		"an old cluster":                 {nil, true, true},
		"an old cluster, asked to check": {[]string{"--kubelet-certificate-authority=" + ca}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var o apiserverFlags
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.add(flags)
			if err := flags.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			c, err := o.kubeletTLS(flags, ca, "", "", !tc.old)
			if err != nil {
				t.Fatal(err)
			}
			if c.InsecureSkipVerify != tc.skip || c.RootCAs == nil {
				t.Errorf("the check is skipped: %v, want %v", c.InsecureSkipVerify, tc.skip)
			}
		})
	}
}

// TestGatesOfAllParts: each part's arguments take gates of Kubernetes, and no others.
func TestGatesOfAllParts(t *testing.T) {
	var (
		api   apiserverFlags
		ctl   controllerFlags
		sched schedulerFlags
		let   kubeletFlags
		alone kubeletOwn
	)
	set := func(part string, add, own func(*pflag.FlagSet)) func(string) error {
		return func(value string) error {
			flags := pflag.NewFlagSet(part, pflag.ContinueOnError)
			add(flags)
			return extraArgs(flags, []config.Arg{{Name: "feature-gates", Value: value}}, part, own, slog.New(slog.DiscardHandler))
		}
	}
	for part, set := range map[string]func(string) error{
		"apiServer":         set("apiServer", api.add, api.apiserverOwn.add),
		"controllerManager": set("controllerManager", func(f *pflag.FlagSet) { ctl.add(f, true) }, ctl.controllerOwn.add),
		"scheduler":         set("scheduler", sched.add, sched.schedulerOwn.add),
		"kubelet":           set("kubelet", let.add, alone.add),
	} {
		t.Run(part, func(t *testing.T) {
			if err := set("ImageVolume=true,AllBeta=false"); err != nil {
				t.Error(err)
			}
			if err := set("ImageVolumes=true"); err == nil || !strings.Contains(err.Error(), "unrecognized feature gate: ImageVolumes") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestShown: /flagz does not give the store's address, which may hold a password.
func TestShown(t *testing.T) {
	var o apiserverFlags
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.apiserverOwn.add(flags)
	o.add(flags)
	if err := flags.Parse([]string{"--etcd-servers=postgres://u:secret@h/d", "--secure-port=1"}); err != nil {
		t.Fatal(err)
	}
	got := shown(flags)
	if got["etcd-servers"] != "CLASSIFIED" || got["secure-port"] != "1" || got["authorization-webhook-version"] != "v1beta1" {
		t.Errorf("%v", got)
	}
}
