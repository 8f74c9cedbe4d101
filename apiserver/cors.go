package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// corsOrigins are the origins whose pages may read answers. An expression that is
// not bound to both ends of the host lets hosts in that only contain it.
func corsOrigins(texts []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	var errs []error
	for _, text := range texts {
		e, err := regexp.Compile(text)
		bound := (strings.Contains(text, "^") || strings.Contains(text, "//")) && (strings.Contains(text, "$") || strings.Contains(text, ":"))
		if err == nil && !bound {
			err = errors.New("regular expression does not pin to start/end of host in the origin header")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("apiserver: --cors-allowed-origins has an invalid regular expression: %w", err))
			continue
		}
		out = append(out, e)
	}
	return out, errors.Join(errs...)
}

// withCORS tells browsers that pages of the allowed origins may read the answers.
// Their questions before a request carry no credentials, and are answered here.
func (s *Server) withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin == "" || !s.mayRead(origin) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE, PATCH")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since")
		h.Set("Access-Control-Expose-Headers", "Date")
		h.Set("Access-Control-Allow-Credentials", "true")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) mayRead(origin string) bool {
	for _, e := range s.cfg.corsOrigins {
		if e.MatchString(origin) {
			return true
		}
	}
	return false
}
