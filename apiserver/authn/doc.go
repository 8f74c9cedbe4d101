// Package authn says who makes a request: client certificates, service-account
// tokens, bootstrap tokens, a token file, OIDC, a webhook, a front proxy's
// headers, the identity of a part of this process, or anonymous.
//
// New only wires; Run keeps what must be fetched or reloaded (OIDC providers,
// the structured configuration file) and blocks until its context ends.
package authn
