package apiserver_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
	"skiff/apiserver/authn"
)

// record is a log that several write to.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// everything has the libraries write all they would ever say.
func everything(t *testing.T, to *record) {
	t.Helper()
	set := func(values ...string) {
		f := flag.NewFlagSet("", flag.PanicOnError)
		klog.InitFlags(f)
		for i := 0; i < len(values); i += 2 {
			if err := f.Set(values[i], values[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	set("v", "10", "logtostderr", "false", "alsologtostderr", "false", "stderrthreshold", "FATAL")
	klog.SetOutput(to)
	t.Cleanup(func() {
		klog.Flush()
		set("v", "0", "logtostderr", "true")
	})
}

// Tokens, and what Secrets hold, are in no log at any verbosity, in no audit record
// that is to have no bodies, and in no error (CVE-2019-11250, CVE-2020-8563,
// CVE-2020-8564, CVE-2020-8565, CVE-2020-8566).
//
// Covers: api.audit, api.introspection
func TestNoSecretIsWrittenDown(t *testing.T) {
	const (
		inSecret, inPull, forged, webhookToken = "s3cr3t-of-a-secret", "s3cr3t-of-a-registry", "s3cr3t-of-nobody", "s3cr3t-of-this-server"
		password, inDocument                   = "s3cr3t-password", "s3cr3t-in-a-broken-body"
	)
	var logs record
	everything(t, &logs)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// A service that is asked about tokens, and fails.
	reviews := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusInternalServerError) }))
	defer reviews.Close()
	records := filepath.Join(dir, "audit.log")
	s := apiservertest.Start(t, func(c *apiserver.Config) {
		c.Log = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug - 100}))
		c.AuditPolicyFile = write("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
		c.AuditLog.Path = records
		c.TokenWebhook = &authn.WebhookConfig{KubeconfigFile: write("webhook.conf", `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],
			"clusters":[{"name":"c","cluster":{"server":"`+reviews.URL+`"}}],"users":[{"name":"u","user":{"token":"`+webhookToken+`"}}]}`), Version: "v1"}
	})
	ctx := t.Context()
	namespace(t, s.Client, "quiet")
	if _, err := s.Client.CoreV1().ServiceAccounts("quiet").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	issued, err := s.Client.CoreV1().ServiceAccounts("quiet").CreateToken(ctx, "sa", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := issued.Status.Token
	secrets := s.Client.CoreV1().Secrets("quiet")
	for name, sec := range map[string]*corev1.Secret{
		"plain": {StringData: map[string]string{"k": inSecret}},
		"pull":  {Type: corev1.SecretTypeDockerConfigJson, StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{"r":{"username":"u","password":"` + inPull + `"}}}`}},
	} {
		sec.Name = name
		if _, err := secrets.Create(ctx, sec, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := secrets.Update(ctx, sec, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var answers []string
	for _, c := range []struct{ method, path, body, media string }{
		// Each is refused, and says why.
		{"POST", "/api/v1/namespaces/quiet/secrets", `{"metadata":{"name":"Bad Name"},"stringData":{"k":"` + inSecret + `"}}`, "application/json"},
		{"POST", "/api/v1/namespaces/quiet/secrets", `{"metadata":{"name":"x"},"type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":"` + inPull + `"}}`, "application/json"},
		{"POST", "/api/v1/namespaces/quiet/secrets", `{"metadata":{"name":"x"},"data":{"k":"` + inDocument + `"}}`, "application/json"},
		{"PATCH", "/api/v1/namespaces/quiet/secrets/plain", `{"type":"Other","stringData":{"k":"` + inSecret + `"}}`, "application/merge-patch+json"},
		{"GET", "/api/v1/namespaces/quiet/secrets?watch=1&timeoutSeconds=1", "", ""},
		{"GET", "/api/v1/namespaces/quiet/secrets", "", ""},
		{"POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"` + token + `"}}`, "application/json"},
		{"POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"` + forged + `"}}`, "application/json"},
	} {
		a := s.Call(t, c.method, c.path, c.body, "Content-Type", c.media)
		if a.Code >= 400 {
			answers = append(answers, string(a.Body))
		}
	}
	for _, cred := range []string{token, forged, token + "x"} {
		a := s.CallAs(t, s.WithToken(cred), "GET", "/api/v1/namespaces/quiet/secrets/plain", "")
		if a.Code != 401 && a.Code != 403 {
			t.Errorf("a token without rights got %d", a.Code)
		}
		answers = append(answers, string(a.Body))
	}
	// What a client says by way of headers and of the query. The client of this test
	// would log it itself.
	for _, request := range []string{
		"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password)),
		"GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + forged,
		"GET /api HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Protocol: base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(forged)),
	} {
		resp := raw(t, s, s.WithToken(""), request+"\r\n\r\n")
		if resp == nil {
			t.Fatal("no answer")
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		answers = append(answers, string(b))
	}
	if _, err := kubernetes.NewForConfigOrDie(s.Admin).CoreV1().Secrets("quiet").List(ctx, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	klog.Flush()
	audit, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(audit, []byte(`"resource":"secrets"`)) || len(logs.String()) < 1000 {
		t.Fatalf("%d bytes of logs and %d of audit records show nothing", len(logs.String()), len(audit))
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]
	for what, secret := range map[string]string{
		"a Secret": inSecret, "a pull secret": inPull, "a forged token": forged, "the token of the webhook": webhookToken, "a password": password, "a body": inDocument, "a token": signature,
	} {
		for where, text := range map[string]string{"logs": logs.String(), "audit records": string(audit), "answers": strings.Join(answers, "\n")} {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if i := strings.Index(text, strings.TrimRight(form, "=")); i >= 0 {
					t.Errorf("%s is in the %s: …%s…", what, where, text[max(0, i-200):min(len(text), i+len(secret)+20)])
				}
			}
		}
	}
}
