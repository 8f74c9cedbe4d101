package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestValidateBundle(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	good := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for name, tc := range map[string]struct{ name, signer, text, want string }{
		"without a signer":     {name: "foo", text: good},
		"of a signer":          {name: "example.com:s:foo", signer: "example.com/s", text: good},
		"colon and no signer":  {name: "a:b", text: good, want: "metadata.name"},
		"name of another":      {name: "foo", signer: "example.com/s", text: good, want: "must be named with prefix example.com:s:"},
		"bad signer":           {name: "x:foo", signer: "x", text: good, want: "spec.signerName"},
		"nothing":              {name: "foo", want: "at least one trust anchor"},
		"twice":                {name: "foo", text: good + good, want: "duplicate trust anchor"},
		"a key":                {name: "foo", text: strings.ReplaceAll(good, "CERTIFICATE", "PRIVATE KEY"), want: "bad block type"},
		"no certificate in it": {name: "foo", text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", want: "does not parse"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &bundle{}
			o.Name, o.Spec.SignerName, o.Spec.TrustBundle = tc.name, tc.signer, tc.text
			got := validateBundle(o).ToAggregate()
			if (got == nil) != (tc.want == "") || got != nil && !strings.Contains(got.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", got, tc.want)
			}
		})
	}
}
