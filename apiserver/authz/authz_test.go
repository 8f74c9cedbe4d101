package authz

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://192.0.2.1/authorize"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(t *testing.T) Config {
	t.Helper()
	return Config{
		Informers: informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(&rest.Config{Host: "https://192.0.2.1"}), 0),
		Log:       slog.New(slog.DiscardHandler),
	}
}

func of(authorizers string) string {
	return "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n" + authorizers
}

// hook is a webhook's entry whose settings end with more.
func hook(file, more string) string {
	return `
- type: Webhook
  name: hook
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: ` + file + "}\n" + more
}

// Covers: api.authz-webhook
func TestConfigurations(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "hook.conf"), kubeconfig)
	service := &WebhookConfig{KubeconfigFile: file, Version: "v1"}
	for name, tc := range map[string]struct {
		text    string
		modes   []string
		webhook *WebhookConfig
		want    string
	}{
		"default":              {"", nil, nil, ""},
		"all modes":            {"", []string{"Node", "RBAC", "Webhook", "AlwaysAllow", "AlwaysDeny"}, service, ""},
		"unknown mode":         {"", []string{"ABAC"}, nil, `--authorization-mode: "ABAC" is not known`},
		"mode twice":           {"", []string{"RBAC", "RBAC"}, nil, "is there twice"},
		"no service":           {"", []string{"Webhook"}, nil, "needs --authorization-webhook-config-file"},
		"no mode":              {"", []string{"RBAC"}, service, "--authorization-mode has no Webhook"},
		"unknown version":      {"", []string{"Webhook"}, &WebhookConfig{KubeconfigFile: file, Version: "v2"}, "want v1 or v1beta1"},
		"file":                 {of("- {type: Node, name: node}\n- {type: RBAC, name: rbac}" + hook(file, "    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions: [{expression: \"request.user == 'a'\"}]")), nil, nil, ""},
		"file and modes":       {of("- {type: RBAC, name: rbac}"), []string{"RBAC"}, nil, "can not be specified when"},
		"empty file":           {" ", nil, nil, "the file is empty"},
		"unknown field":        {of("- {type: RBAC, name: rbac, nome: x}"), nil, nil, `unknown field "authorizers[0].nome"`},
		"another kind":         {"apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: []", nil, nil, "want an AuthorizationConfiguration"},
		"nothing":              {of("  []"), nil, nil, "at least one authorization mode must be defined"},
		"unknown type":         {of("- {type: ABAC, name: a}"), nil, nil, `authorizers[0].type: Unsupported value: "ABAC"`},
		"type twice":           {of("- {type: RBAC, name: a}\n- {type: RBAC, name: b}"), nil, nil, "authorizers[1].type: Duplicate value"},
		"no name":              {of("- {type: RBAC}"), nil, nil, "authorizers[0].name: Required value"},
		"bad expression":       {of(hook(file, "    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions: [{expression: 'request.nome'}]")), nil, nil, "undefined field 'nome'"},
		"no bool":              {of(hook(file, "    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions: [{expression: 'request.user'}]")), nil, nil, "must evaluate to bool"},
		"no condition version": {of(hook(file, "    matchConditions: [{expression: 'true'}]")), nil, nil, "required if match conditions are specified"},
		"no such kubeconfig":   {of(hook("/none", "")), nil, nil, "error loading file"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Modes, c.Webhook = tc.modes, tc.webhook
			if tc.text != "" {
				c.File = write(t, filepath.Join(t.TempDir(), "authz.yaml"), tc.text)
			}
			_, err := New(c)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func decide(a *Authorizer, groups ...string) authorizer.Decision {
	d, _, _ := a.Authorize(context.Background(), authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "u", Groups: groups}, Verb: "get", Path: "/x"})
	return d
}

// TestOrder: the first that decides ends it, and masters need none.
func TestOrder(t *testing.T) {
	for name, tc := range map[string]struct {
		modes  []string
		groups []string
		want   authorizer.Decision
	}{
		"allow":             {[]string{"AlwaysAllow"}, nil, authorizer.DecisionAllow},
		"deny":              {[]string{"AlwaysDeny"}, nil, authorizer.DecisionNoOpinion},
		"deny, then allow":  {[]string{"AlwaysDeny", "AlwaysAllow"}, nil, authorizer.DecisionAllow},
		"masters in denial": {[]string{"AlwaysDeny"}, []string{"system:masters"}, authorizer.DecisionAllow},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Modes = tc.modes
			a, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			if got := decide(a, tc.groups...); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// log keeps what is said, for a test that waits for it.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// TestReload: a new configuration is taken without a restart; a wrong one leaves
// the one before in force.
//
// Covers: api.authz-webhook
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "authz.yaml")
	write(t, file, of("- {type: RBAC, name: rbac}\n- {type: AlwaysDeny, name: deny}"))
	said := &log{}
	c := config(t)
	c.File, c.ReloadEvery, c.Log = file, time.Millisecond, slog.New(slog.NewTextHandler(said, nil))
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	until := func(what string, check func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		end := time.After(20 * time.Second)
		for !check() {
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("%s: not within 20 s", what)
			}
		}
	}
	if d := decide(a); d != authorizer.DecisionNoOpinion {
		t.Fatalf("at first %v", d)
	}
	write(t, file, of("- {type: AlwaysAllow, name: allow}"))
	until("the new configuration", func() bool { return decide(a) == authorizer.DecisionAllow })
	write(t, file, of("- {type: AlwaysNever, name: never}"))
	until("the complaint", func() bool { return said.has("AlwaysNever") })
	if d := decide(a); d != authorizer.DecisionAllow {
		t.Errorf("under a wrong configuration %v", d)
	}
	write(t, file, of("- {type: Node, name: node}"))
	until("the complaint", func() bool { return said.has("the server began without it") })
	write(t, file, of("- {type: AlwaysDeny, name: deny}"))
	until("the last configuration", func() bool { return decide(a) == authorizer.DecisionNoOpinion })
}
