package pgtest

import (
	"database/sql"
	"net/url"
	"testing"

	// The driver "postgres".
	_ "github.com/lib/pq"
)

func (s *Server) url(schema string) string {
	q := url.Values{"host": {s.dir}, "sslmode": {"disable"}, "search_path": {schema}}
	return "postgres://postgres@/postgres?" + q.Encode()
}

// single runs one statement in the server's own database.
func (s *Server) single(t testing.TB, text string) {
	t.Helper()
	db, err := sql.Open("postgres", s.url("public"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(text); err != nil {
		t.Fatal(err)
	}
}

// CutConnections ends every connection to a database, as a failing network does.
func (s *Server) CutConnections(t testing.TB) {
	t.Helper()
	s.single(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'skiff'")
}

// Exec runs statements in the server's own database, as its owner.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, text := range statements {
		s.single(t, text)
	}
}

// As is the URL of a schema for another role, or of another database.
func (s *Server) As(role, database, schema string) string {
	q := url.Values{"host": {s.dir}, "sslmode": {"disable"}, "search_path": {schema}}
	return "postgres://" + role + ":secret@/" + database + "?" + q.Encode()
}
