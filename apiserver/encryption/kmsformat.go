package encryption

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// sealed is a stored value as upstream's second version of KMS writes it: the data,
// and what the key service needs to give back the secret that it was encrypted with.
type sealed struct {
	data        []byte
	keyID       string
	secret      []byte // encrypted by the service
	annotations map[string][]byte
	derived     bool // the secret is a seed that each value's key is derived from
}

// The fields of the stored message, and of an entry of its map.
const (
	fieldData, fieldKeyID, fieldSecret, fieldAnnotations, fieldType = 1, 2, 3, 4, 5
	fieldMapKey, fieldMapValue                                      = 1, 2
)

func (s *sealed) encode() []byte {
	field := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	out := field(nil, fieldData, s.data)
	out = field(out, fieldKeyID, []byte(s.keyID))
	out = field(out, fieldSecret, s.secret)
	for _, k := range slices.Sorted(maps.Keys(s.annotations)) {
		out = field(out, fieldAnnotations, field(field(nil, fieldMapKey, []byte(k)), fieldMapValue, s.annotations[k]))
	}
	if s.derived {
		out = protowire.AppendVarint(protowire.AppendTag(out, fieldType, protowire.VarintType), 1)
	}
	return out
}

var errMalformed = errors.New("the stored value is no message of a key service: it is damaged")

func decodeSealed(b []byte) (*sealed, error) {
	s := &sealed{}
	err := fields(b, func(n protowire.Number, v []byte, number uint64) error {
		switch n {
		case fieldData:
			s.data = v
		case fieldKeyID:
			s.keyID = string(v)
		case fieldSecret:
			s.secret = v
		case fieldType:
			if number > 1 {
				return fmt.Errorf("the stored value is encrypted in a way (%d) that this version does not know", number)
			}
			s.derived = number == 1
		case fieldAnnotations:
			var key string
			var value []byte
			if err := fields(v, func(n protowire.Number, v []byte, _ uint64) error {
				switch n {
				case fieldMapKey:
					key = string(v)
				case fieldMapValue:
					value = v
				}
				return nil
			}); err != nil {
				return err
			}
			if s.annotations == nil {
				s.annotations = map[string][]byte{}
			}
			s.annotations[key] = value
		}
		return nil
	})
	if err == nil && (len(s.data) == 0 || s.keyID == "" || len(s.secret) == 0) {
		err = errMalformed
	}
	return s, err
}

// fields calls do with each field of a message.
func fields(b []byte, do func(n protowire.Number, v []byte, number uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		var v []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := do(num, v, number); err != nil {
			return err
		}
	}
	return nil
}

// infoSize is how much of a derived value's data says which key it has.
const infoSize = 32

// sealDerived encrypts with a key that is derived from seed for this value alone.
func sealDerived(seed, plain, key []byte) ([]byte, error) {
	info := make([]byte, infoSize)
	if _, err := rand.Read(info); err != nil {
		return nil, err
	}
	aead, err := derivedAEAD(seed, info)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(append(info, nonce...), nonce, plain, key), nil
}

func derivedAEAD(seed, info []byte) (stdcipher.AEAD, error) {
	k, err := hkdf.Expand(sha256.New, seed, string(info), 32)
	if err != nil {
		return nil, err
	}
	return plainAEAD(k)
}

func plainAEAD(k []byte) (stdcipher.AEAD, error) {
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return stdcipher.NewGCM(block)
}

// unseal decrypts a value's data with the secret that the service gave back.
func unseal(secret []byte, derived bool, data, key []byte) ([]byte, error) {
	var aead stdcipher.AEAD
	var err error
	if derived {
		if len(data) < infoSize {
			return nil, errMalformed
		}
		aead, err = derivedAEAD(secret, data[:infoSize])
		data = data[infoSize:]
	} else {
		aead, err = plainAEAD(secret)
	}
	if err != nil {
		return nil, err
	}
	if len(data) < aead.NonceSize() {
		return nil, errMalformed
	}
	return aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], key)
}
