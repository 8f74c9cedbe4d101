package pki

import (
	"fmt"
	"os"
	"path/filepath"
)

func certFile(dir, name string) string { return filepath.Join(dir, name+".crt") }
func keyFile(dir, name string) string  { return filepath.Join(dir, name+".key") }

func writeCA(dir, name string, ca *CA) error {
	keyPEM, err := EncodeKey(ca.Key)
	if err != nil {
		return err
	}
	return writePair(dir, name, EncodeCert(ca.Cert), keyPEM)
}

// writePair writes the key before the certificate: a certificate without its
// key would be taken for one whose key is kept elsewhere.
func writePair(dir, name string, certPEM, keyPEM []byte) error {
	if err := writeFile(keyFile(dir, name), keyPEM); err != nil {
		return err
	}
	return writeFile(certFile(dir, name), certPEM)
}

// writeFile replaces path as a whole, readable by root alone.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone after the rename
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
