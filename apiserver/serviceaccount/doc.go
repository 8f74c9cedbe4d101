// Package serviceaccount signs and checks the tokens of service accounts and
// publishes their keys.
package serviceaccount
