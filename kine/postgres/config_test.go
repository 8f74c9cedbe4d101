package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Several servers are named as libpq takes them.
//
// Covers: store.postgres-failover
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		name, url string
		want      []string
	}{
		{"one", "postgres://u:p@a:5433/db", []string{"a:5433"}},
		{"several", "postgres://u:p@a:5433,b:5434/db", []string{"a:5433", "b:5434"}},
		{"without ports", "postgres://u:p@a,b/db", []string{"a:5432", "b:5432"}},
		{"without one's port", "postgres://u:p@a,b:5434/db", []string{"a:5432", "b:5434"}},
		{"IPv6", "postgres://u:p@[::1]:5433,[fd00::2],c/db", []string{"::1:5433", "fd00::2:5432", "c:5432"}},
		{"one of IPv6", "postgres://u:p@[::1]:5433/db", []string{"::1:5433"}},
		{"as parameters", "postgres://u:p@/db?host=a,b&port=5433,5434", []string{"a:5433", "b:5434"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := config(c.url)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)}
			for _, m := range cfg.Multi {
				got = append(got, fmt.Sprintf("%s:%d", m.Host, m.Port))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("the servers (-want +got):\n%s", d)
			}
		})
	}
}

// What is wrong is said, and logged, without what is secret.
func TestPasswordsAreNotShown(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"several servers", "postgres://u:secret@a:1,b:2/db?sslmode=nonsense", "postgres://u:xxxxx@a:1,b:2/db?sslmode=nonsense"},
		{"several of IPv6", "postgres://u:secret@[::1]:1,[::2]:2/db?sslmode=nonsense", "postgres://u:xxxxx@[::1]:1,[::2]:2/db?sslmode=nonsense"},
		{"as a parameter", "postgres://a/db?password=secret&sslmode=nonsense&user=u", "postgres://a/db?password=xxxxx&sslmode=nonsense&user=u"},
		{"the key's", "postgres://u@a/db?sslmode=nonsense&sslpassword=secret", "postgres://u@a/db?sslmode=nonsense&sslpassword=xxxxx"},
		{"not to be read", "postgres://u:se,cret^[@a/db", "postgres://..."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Redact(c.url); got != c.want {
				t.Errorf("shown as %s, want %s", got, c.want)
			}
			if _, err := config(c.url); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("refused with: %v", err)
			}
		})
	}
}
