package encryption

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/nacl/secretbox"
)

var errTampered = errors.New("the value was not written with this key, or was changed since")

// gcm is AES-GCM with a random nonce before the text.
type gcm struct{ aead stdcipher.AEAD }

func newGCM(secret []byte) (cipher, error) {
	b, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := stdcipher.NewGCM(b)
	return gcm{aead}, err
}

func (c gcm) seal(plain, key []byte) ([]byte, error) {
	n := c.aead.NonceSize()
	out := make([]byte, n, n+len(plain)+c.aead.Overhead())
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return c.aead.Seal(out, out[:n], plain, key), nil
}

func (c gcm) open(data, key []byte) ([]byte, error) {
	n := c.aead.NonceSize()
	if len(data) < n {
		return nil, errTampered
	}
	plain, err := c.aead.Open(nil, data[:n], data[n:], key)
	if err != nil {
		return nil, errTampered
	}
	return plain, nil
}

// cbc is AES-CBC with a random first block and PKCS #7 padding.
type cbc struct{ block stdcipher.Block }

func newCBC(secret []byte) (cipher, error) {
	b, err := aes.NewCipher(secret)
	return cbc{b}, err
}

func (c cbc) seal(plain, _ []byte) ([]byte, error) {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	out := make([]byte, aes.BlockSize+len(plain)+pad)
	if _, err := rand.Read(out[:aes.BlockSize]); err != nil {
		return nil, err
	}
	text := out[aes.BlockSize:]
	copy(text, plain)
	for i := len(plain); i < len(text); i++ {
		text[i] = byte(pad)
	}
	stdcipher.NewCBCEncrypter(c.block, out[:aes.BlockSize]).CryptBlocks(text, text)
	return out, nil
}

func (c cbc) open(data, _ []byte) ([]byte, error) {
	if len(data) < 2*aes.BlockSize || len(data)%aes.BlockSize != 0 {
		return nil, errTampered
	}
	plain := make([]byte, len(data)-aes.BlockSize)
	stdcipher.NewCBCDecrypter(c.block, data[:aes.BlockSize]).CryptBlocks(plain, data[aes.BlockSize:])
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errTampered
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errTampered
		}
	}
	return plain[:len(plain)-pad], nil
}

// box is NaCl's secretbox with a random nonce before the text.
type box struct{ secret [32]byte }

const boxNonce = 24

func newBox(secret []byte) (cipher, error) {
	b := &box{}
	copy(b.secret[:], secret)
	return b, nil
}

func (b *box) seal(plain, _ []byte) ([]byte, error) {
	var nonce [boxNonce]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return secretbox.Seal(nonce[:], plain, &nonce, &b.secret), nil
}

func (b *box) open(data, _ []byte) ([]byte, error) {
	if len(data) < boxNonce {
		return nil, errTampered
	}
	var nonce [boxNonce]byte
	copy(nonce[:], data)
	plain, ok := secretbox.Open(nil, data[boxNonce:], &nonce, &b.secret)
	if !ok {
		return nil, errTampered
	}
	return plain, nil
}
