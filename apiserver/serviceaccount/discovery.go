package serviceaccount

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	jose "gopkg.in/go-jose/go-jose.v2"
)

// Paths of the published documents.
const (
	OpenIDConfigPath = "/.well-known/openid-configuration"
	JWKSPath         = "/openid/v1/jwks"
)

// Discovery serves the issuer's OpenID Connect documents.
type Discovery struct {
	config, jwks []byte
}

type openIDConfiguration struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
}

// NewDiscovery prepares the documents. jwksURI may be empty, then it is
// https://externalAddress/openid/v1/jwks. The issuer must be an https URL
// without query or fragment, else the error says why it cannot be published.
func NewDiscovery(issuer, jwksURI, externalAddress string, keys []PublicKey) (*Discovery, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("service account issuer %q: must be an https URL without query and fragment to serve OpenID discovery", issuer)
	}
	if jwksURI == "" {
		jwksURI = (&url.URL{Scheme: "https", Host: externalAddress, Path: JWKSPath}).String()
	}
	cfg := openIDConfiguration{
		Issuer: issuer, JWKSURI: jwksURI,
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"},
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	seen := map[string]bool{}
	for _, k := range keys {
		if k.ExcludeFromDiscovery {
			continue
		}
		alg, err := algorithm(k.Key)
		if err != nil {
			return nil, err
		}
		if !seen[string(alg)] {
			seen[string(alg)] = true
			cfg.SigningAlgs = append(cfg.SigningAlgs, string(alg))
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Algorithm: string(alg), Use: "sig"})
	}
	d := &Discovery{}
	if d.config, err = json.Marshal(cfg); err != nil {
		return nil, err
	}
	if d.jwks, err = json.Marshal(set); err != nil {
		return nil, err
	}
	return d, nil
}

// ServeConfig answers OpenIDConfigPath.
func (d *Discovery) ServeConfig(w http.ResponseWriter, _ *http.Request) {
	serveDocument(w, "application/json", d.config)
}

// ServeJWKS answers JWKSPath.
func (d *Discovery) ServeJWKS(w http.ResponseWriter, _ *http.Request) {
	serveDocument(w, "application/jwk-set+json", d.jwks)
}

func serveDocument(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(body)
}
