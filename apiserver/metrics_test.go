package apiserver_test

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// seriesOf are the samples of a server's metrics by name; those of histograms by
// the name with "_count".
func seriesOf(t *testing.T, s *apiservertest.Server) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	lines := bufio.NewScanner(bytes.NewReader(s.Call(t, "GET", "/metrics", "").Body))
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			out[name] = append(out[name], line)
		}
	}
	return out
}

// TestMetrics has the names that Kubernetes keeps stable, and that monitoring asks
// for, after a few requests.
//
// Covers: api.health
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.AuthorizationModes = []string{"RBAC"} })
	if _, err := s.Client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("a", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]int{"/api/v1/namespaces/default/configmaps": 200, "/api/v1/endpoints": 200, "/readyz": 200} {
		if a := s.Call(t, "GET", path, ""); a.Code != code {
			t.Fatalf("%s: %d %s", path, a.Code, a.Body)
		}
	}
	if a := s.CallAs(t, s.Plain, "GET", "/api/v1/pods", ""); a.Code != 403 {
		t.Fatalf("anyone: %d", a.Code)
	}
	if a := s.CallAs(t, s.Plain, "GET", "/version", ""); a.Code != 200 {
		t.Fatalf("anyone at /version: %d", a.Code)
	}
	if a := s.CallAs(t, s.WithToken("none"), "GET", "/api/v1/pods", ""); a.Code != 401 {
		t.Fatalf("a bad token: %d", a.Code)
	}
	got := seriesOf(t, s)
	for name, labels := range map[string][]string{
		"apiserver_request_total":                                         {`code="201"`, `resource="configmaps"`, `verb="POST"`},
		"apiserver_request_duration_seconds_count":                        {`resource="configmaps"`, `verb="LIST"`},
		"apiserver_response_sizes_count":                                  {`resource="configmaps"`, `verb="LIST"`, `scope="namespace"`},
		"apiserver_current_inflight_requests":                             {`request_kind="readOnly"`},
		"apiserver_longrunning_requests":                                  {`verb="WATCH"`},
		"apiserver_requested_deprecated_apis":                             {`resource="endpoints"`, `version="v1"`, `removed_release=""`},
		"apiserver_storage_objects":                                       {`resource="configmaps"`},
		"apiserver_storage_size_bytes":                                    {`storage_cluster_id=`},
		"kubernetes_build_info":                                           {`git_version=`},
		"kubernetes_healthcheck":                                          {`name="etcd"`, `type="readyz"`},
		"kubernetes_healthchecks_total":                                   {`name="ping"`, `status="success"`},
		"apiserver_flowcontrol_nominal_limit_seats":                       {`priority_level="workload-low"`},
		"apiserver_flowcontrol_dispatched_requests_total":                 {`flow_schema="exempt"`},
		"apiserver_flowcontrol_request_wait_duration_seconds_count":       {`execute="true"`},
		"apiserver_flowcontrol_current_executing_requests":                {`priority_level=`},
		"apiserver_flowcontrol_current_executing_seats":                   {`priority_level=`},
		"apiserver_admission_step_admission_duration_seconds_count":       {`operation="CREATE"`, `type="validate"`, `rejected="false"`},
		"apiserver_admission_controller_admission_duration_seconds_count": {`name="NamespaceLifecycle"`, `operation="CREATE"`, `type="admit"`},
		"authentication_attempts":                                         {`result="error"`},
		"authentication_duration_seconds_count":                           {`result="success"`},
		"authenticated_user_requests":                                     {`username="admin"`},
		"authorization_attempts_total":                                    {`result="no-opinion"`},
		"authorization_duration_seconds_count":                            {`result="allowed"`},
		"apiserver_authorization_decisions_total":                         {`decision="allowed"`, `name="rbac"`, `type="RBAC"`},
		"process_start_time_seconds":                                      nil,
	} {
		found := false
		for _, line := range got[name] {
			all := true
			for _, l := range labels {
				all = all && strings.Contains(line, l)
			}
			found = found || all
		}
		if !found {
			t.Errorf("no %s with %v: %.300q", name, labels, got[name])
		}
	}
	if diff := cmp.Diff([]string{`apiserver_storage_objects{resource="priorityclasses.scheduling.k8s.io"} 2`}, only(got["apiserver_storage_objects"], "priorityclasses")); diff != "" {
		t.Error(diff)
	}
}

func only(lines []string, part string) []string {
	var out []string
	for _, l := range lines {
		if strings.Contains(l, part) {
			out = append(out, l)
		}
	}
	return out
}

// TestMetricsOfWatchesAndLevels has the numbers of a watch's events, and helps that
// begin with how far Kubernetes lets a metric be relied upon.
//
// Covers: api.health
func TestMetricsOfWatchesAndLevels(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	if _, err := s.Client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("a", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path := "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
	if a := s.Call(t, "GET", path, ""); a.Code != 200 {
		t.Fatalf("watch: %d %s", a.Code, a.Body)
	}
	if a := s.Call(t, "PATCH", "/api/v1/namespaces/default/configmaps/a", `{}`, "Content-Type", "application/merge-patch+json"); a.Code != 200 {
		t.Fatalf("patch: %d %s", a.Code, a.Body)
	}
	text := string(s.Call(t, "GET", "/metrics", "").Body)
	for _, line := range []string{
		"# HELP apiserver_request_total [STABLE] ",
		"# HELP apiserver_watch_events_total [BETA] ",
		"# HELP skiff_store_keys [ALPHA] ",
		"# HELP go_goroutines Number",
		`apiserver_watch_events_total{group="",resource="configmaps",version="v1"} `,
		`apiserver_watch_events_sizes_count{group="",resource="configmaps",version="v1"} `,
		`apiserver_watch_list_duration_seconds_count{group="",resource="configmaps",scope="namespace",version="v1"} `,
		`apiserver_storage_events_received_total{group="",resource="configmaps"} `,
		"apiserver_cel_compilation_duration_seconds_count ",
		"apiserver_webhooks_x509_missing_san_total 0",
		`kubernetes_feature_enabled{name="WatchList",stage="BETA"} 1`,
		`registered_metrics_total{deprecated_version="",stability_level="STABLE"} `,
		"hidden_metrics_total 0",
		"serviceaccount_valid_tokens_total 0",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no line that begins with %q", line)
		}
	}
}
