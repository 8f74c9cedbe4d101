// Package encryption keeps values encrypted in the store, as an
// EncryptionConfiguration says: which resources, with which keys. Stored values
// have the form that a kube-apiserver writes and reads.
package encryption

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// configuration is what one EncryptionConfiguration says.
type configuration struct {
	entries  []entry
	services []*kms
}

// entry is one list of resources with what they are encrypted by.
type entry struct {
	resources []string
	chain     *chain
}

// parse reads an EncryptionConfiguration.
func parse(b []byte) (*configuration, error) {
	var c apiserverv1.EncryptionConfiguration
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return nil, err
	}
	if c.APIVersion != apiserverv1.SchemeGroupVersion.String() || c.Kind != "EncryptionConfiguration" {
		return nil, fmt.Errorf("is %s %s: want %s EncryptionConfiguration", c.APIVersion, c.Kind, apiserverv1.SchemeGroupVersion)
	}
	var errs field.ErrorList
	e := &configuration{}
	root := field.NewPath("resources")
	if len(c.Resources) == 0 {
		errs = append(errs, field.Required(root, "at least one resources is required"))
	}
	for i, r := range c.Resources {
		p := root.Index(i)
		errs = append(errs, checkResources(r.Resources, p.Child("resources"))...)
		ch, more := newChain(r.Providers, p.Child("providers"), &e.services)
		errs = append(errs, more...)
		e.entries = append(e.entries, entry{r.Resources, ch})
	}
	if err := errs.ToAggregate(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *configuration) close() {
	for _, k := range e.services {
		_ = k.conn.Close() // nothing was written to it
	}
}

func checkResources(list []string, p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) == 0 {
		errs = append(errs, field.Required(p, fmt.Sprintf("at least one %s is required", p)))
	}
	for i, r := range list {
		name, group, dotted := strings.Cut(r, ".")
		switch {
		case r == "":
			errs = append(errs, field.Required(p.Index(i), "must not be empty"))
		case strings.ToLower(r) != r:
			errs = append(errs, field.Invalid(p.Index(i), r, "resource name should not contain capital letters"))
		case strings.Contains(r, "/"):
			errs = append(errs, field.Invalid(p.Index(i), r, "must not name a subresource"))
		case r == "*":
			errs = append(errs, field.Invalid(p.Index(i), r, "use '*.' for the core group, '*.<group>' for another, '*.*' for every resource"))
		case strings.Contains(name, "*") && (name != "*" || !dotted), strings.Contains(group, "*") && r != "*.*":
			errs = append(errs, field.Invalid(p.Index(i), r, "a wildcard stands for a whole part: '*.<group>' or '*.*'"))
		}
	}
	return append(errs, checkOverlap(list, p)...)
}

// checkOverlap refuses resources of one entry that others of it cover.
func checkOverlap(list []string, p *field.Path) field.ErrorList {
	twice, covered := false, false
	for i, r := range list {
		for _, other := range list[i+1:] {
			a, b := schema.ParseGroupResource(r), schema.ParseGroupResource(other)
			twice = twice || a == b
			covered = covered || a != b && (r == "*.*" || other == "*.*" || a.Group == b.Group && (a.Resource == "*" || b.Resource == "*"))
		}
	}
	var errs field.ErrorList
	if twice {
		errs = append(errs, field.Invalid(p, list, "the same resource cannot be specified multiple times"))
	}
	if covered {
		errs = append(errs, field.Invalid(p, list, "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"))
	}
	return errs
}

// chain is the first entry's that names the resource; nil where the configuration
// leaves it as it is.
func (e *configuration) chain(group, resource string) *chain {
	for _, en := range e.entries {
		for _, r := range en.resources {
			if matches(r, group, resource) {
				return en.chain
			}
		}
	}
	return nil
}

func matches(pattern, group, resource string) bool {
	if pattern == "*.*" {
		return true
	}
	name, g, _ := strings.Cut(pattern, ".")
	return g == group && (name == "*" || name == resource)
}

// keyed is one key of a provider: what its values begin with, and its cipher.
// identity has no cipher.
type keyed struct {
	prefix string
	cipher cipher
	kms    *kms // instead of a cipher
}

func (k *keyed) seal(ctx context.Context, plain, key []byte) ([]byte, error) {
	if k.kms != nil {
		return k.kms.seal(ctx, plain, key)
	}
	return k.cipher.seal(plain, key)
}

func (k *keyed) open(ctx context.Context, data, key []byte) (plain []byte, stale bool, err error) {
	if k.kms != nil {
		return k.kms.open(ctx, data, key)
	}
	plain, err = k.cipher.open(data, key)
	return plain, false, err
}

// identity leaves values as they are.
func (k *keyed) identity() bool { return k.cipher == nil && k.kms == nil }

// cipher works on a value behind its prefix. key is authenticated where the
// cipher can.
type cipher interface {
	seal(plain, key []byte) ([]byte, error)
	open(data, key []byte) ([]byte, error)
}

// chain writes with its first key and reads with all.
type chain struct{ keys []keyed }

// encrypted is what every encrypted value begins with.
const encrypted = "k8s:enc:"

func newChain(providers []apiserverv1.ProviderConfiguration, p *field.Path, services *[]*kms) (*chain, field.ErrorList) {
	var errs field.ErrorList
	if len(providers) == 0 {
		errs = append(errs, field.Required(p, fmt.Sprintf("at least one %s is required", p)))
	}
	c := &chain{}
	for i, pr := range providers {
		p := p.Index(i)
		n := 0
		if pr.AESGCM != nil {
			n++
			errs = append(errs, c.add("aesgcm", pr.AESGCM.Keys, p.Child("aesgcm"), newGCM, 16, 24, 32)...)
		}
		if pr.AESCBC != nil {
			n++
			errs = append(errs, c.add("aescbc", pr.AESCBC.Keys, p.Child("aescbc"), newCBC, 16, 24, 32)...)
		}
		if pr.Secretbox != nil {
			n++
			errs = append(errs, c.add("secretbox", pr.Secretbox.Keys, p.Child("secretbox"), newBox, 32)...)
		}
		if pr.Identity != nil {
			n++
			c.keys = append(c.keys, keyed{})
		}
		if pr.KMS != nil {
			n++
			service, more := newKMS(pr.KMS, p.Child("kms"))
			errs = append(errs, more...)
			if service != nil {
				*services = append(*services, service)
				c.keys = append(c.keys, keyed{prefix: service.prefix(), kms: service})
			}
		}
		switch {
		case n == 0:
			errs = append(errs, field.Required(p, "at least one provider is required"))
		case n > 1:
			// The providers themselves hold keys, which are in no message.
			errs = append(errs, field.Invalid(p, n, "more than one provider specified in a single element, should split into different list elements"))
		}
	}
	return c, errs
}

func (c *chain) add(name string, keys []apiserverv1.Key, p *field.Path, make func([]byte) (cipher, error), sizes ...int) field.ErrorList {
	var errs field.ErrorList
	p = p.Child("keys")
	if len(keys) == 0 {
		errs = append(errs, field.Required(p, "at least one keys is required"))
	}
	seen := map[string]bool{}
	for i, k := range keys {
		p := p.Index(i)
		switch {
		case k.Name == "":
			errs = append(errs, field.Required(p.Child("name"), "name is a mandatory field for a key"))
		case strings.Contains(k.Name, ":"):
			errs = append(errs, field.Invalid(p.Child("name"), k.Name, "must not hold a colon"))
		}
		if seen[k.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), k.Name))
		}
		seen[k.Name] = true
		if k.Secret == "" {
			errs = append(errs, field.Required(p.Child("secret"), "secret is a mandatory field for a key"))
			continue
		}
		// The secret itself is in no message.
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil {
			errs = append(errs, field.Invalid(p.Child("secret"), "REDACTED", "secrets must be base64 encoded"))
			continue
		}
		fits := false
		for _, n := range sizes {
			fits = fits || len(secret) == n
		}
		if !fits {
			errs = append(errs, field.Invalid(p.Child("secret"), "REDACTED", fmt.Sprintf("secret is not of the expected length, got %d, expected one of %v", len(secret), sizes)))
			continue
		}
		ci, err := make(secret)
		if err != nil {
			errs = append(errs, field.InternalError(p.Child("secret"), err))
			continue
		}
		c.keys = append(c.keys, keyed{prefix: encrypted + name + ":v1:" + k.Name + ":", cipher: ci})
	}
	return errs
}

// ToStorage implements store.Transformer.
func (c *chain) ToStorage(ctx context.Context, key string, plain []byte) ([]byte, error) {
	k := &c.keys[0]
	if k.identity() {
		return plain, nil
	}
	data, err := k.seal(ctx, plain, []byte(key))
	if err != nil {
		return nil, err
	}
	return append([]byte(k.prefix), data...), nil
}

// FromStorage implements store.Transformer.
func (c *chain) FromStorage(ctx context.Context, key string, stored []byte) ([]byte, bool, error) {
	sealed := strings.HasPrefix(string(stored[:min(len(stored), len(encrypted))]), encrypted)
	var last error
	for i := range c.keys {
		k := &c.keys[i]
		if k.identity() {
			if !sealed {
				return stored, i > 0, nil
			}
			continue
		}
		if len(stored) < len(k.prefix) || string(stored[:len(k.prefix)]) != k.prefix {
			continue
		}
		plain, stale, err := k.open(ctx, stored[len(k.prefix):], []byte(key))
		if err == nil {
			return plain, stale || i > 0, nil
		}
		last = err
	}
	switch {
	case last != nil:
		return nil, false, last
	case sealed:
		return nil, false, fmt.Errorf("no key of the encryption configuration has the prefix of this value: give the key that it was written with")
	}
	return nil, false, fmt.Errorf("the value is not encrypted, and the encryption configuration has no identity provider for it: add one at the end of the providers")
}
