package backend

import (
	"fmt"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for _, c := range []struct{ address, kind, err string }{
		{"sqlite:///var/lib/x/state.db", "*sqlite.Store", ""},
		{"sqlite:state.db", "*sqlite.Store", ""},
		{"sqlite://host/state.db", "", "three slashes"},
		{"sqlite://", "", "names no file"},
		{"sqlite:///a.db?mode=ro", "", "options"},
		{"postgres://u:secret@host/db", "*postgres.Store", ""},
		{"postgres://u:se%cret@host/db", "", "cannot be parsed"},
		{"postgres://u:secret@host/db?sslmode=often", "", "sslmode"},
		{"https://a:2379,https://b:2379", "*etcd.Store", ""},
		{"https://a:2379,ftp://b:2379", "", "ftp://b:2379"},
		{"https://u:secret@a:2379", "", "set Username"},
		{"mysql://u:secret@host/db", "", `scheme "mysql"`},
		{"/var/lib/x", "", "no scheme"},
	} {
		t.Run(c.address, func(t *testing.T) {
			s, err := New(c.address, Options{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("got %v, want %q and no password", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%T", s); got != c.kind {
				t.Errorf("got %s, want %s", got, c.kind)
			}
		})
	}
	if got := Redact("postgres://u:secret@host/db,https://a"); strings.Contains(got, "secret") || !strings.Contains(got, "host/db,https://a") {
		t.Errorf("redacted: %s", got)
	}
}
