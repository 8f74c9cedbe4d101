package server

import (
	"net/http"
	"strings"
)

// healthCheck is one named check of the kubelet's health.
type healthCheck struct {
	name string
	run  func() error
}

// health are the checks behind /healthz.
func (s *Server) health() []healthCheck {
	ok := func() error { return nil }
	return []healthCheck{{"ping", ok}, {"log", ok}, {"syncloop", s.syncs}}
}

// syncs says what keeps the kubelet from working. One that has only just begun works.
func (s *Server) syncs() error {
	if s.cfg.Healthy == nil {
		return nil
	}
	if err := s.cfg.Healthy(); err != nil && !strings.Contains(err.Error(), "yet to be successful") {
		return err
	}
	return nil
}

// healthz answers ok when all checks are good.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { s.answerHealth(w, s.health()...) }

// answerHealth runs checks, and counts what they say.
func (s *Server) answerHealth(w http.ResponseWriter, checks ...healthCheck) {
	var failed error
	for _, c := range checks {
		err := c.run()
		s.checks.Checked("healthz", c.name, err)
		if err != nil {
			failed = err
		}
	}
	if failed != nil {
		http.Error(w, failed.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte("ok"))
}
