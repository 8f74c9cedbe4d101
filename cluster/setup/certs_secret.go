package setup

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"skiff/cluster/config"
	"skiff/cluster/pki"
	"skiff/cluster/token"
)

// certsTTL is how long the uploaded authorities live, as kubeadm's.
const certsTTL = 2 * time.Hour

// storeKey is the entry of the Secret that holds where the store is: a URL may
// carry a password, so it does not stand in the ConfigMap.
const storeKey = "etcd-external.json"

// sharedFiles are the files that every master has the same.
func sharedFiles() []string {
	files := []string{"sa.key", "sa.pub"}
	for name := range pki.Authorities() {
		files = append(files, name+".crt", name+".key")
	}
	return files
}

// NewCertificateKey is a random key for the uploaded authorities, in hexadecimal.
func NewCertificateKey() (string, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return hex.EncodeToString(key), nil
}

func sealer(key string) (cipher.AEAD, error) {
	raw, err := hex.DecodeString(key)
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("the certificate key must be 32 bytes in hexadecimal, as `skiff certs certificate-key` prints")
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func seal(aead cipher.AEAD, data []byte) ([]byte, error) {
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, data, nil), nil
}

func unseal(aead cipher.AEAD, data []byte) ([]byte, error) {
	n := aead.NonceSize()
	if len(data) < n {
		return nil, fmt.Errorf("is cut short")
	}
	return aead.Open(nil, data[:n], data[n:], nil)
}

// uploadCerts stores the authorities, encrypted with the certificate key, for
// masters that join within two hours.
func (d *Init) uploadCerts(ctx context.Context) error {
	if !d.UploadCerts {
		return nil
	}
	if d.Config.CertificateKey == "" {
		key, err := NewCertificateKey()
		if err != nil {
			return err
		}
		d.Config.CertificateKey = key
	}
	return d.do("upload-certs", "store the authorities in Secret "+certsSecret, func() error {
		client, err := d.admin()
		if err != nil {
			return err
		}
		if err := UploadCerts(ctx, client, &d.Config.Cluster, d.Config.CertificateKey, d.now()); err != nil {
			return err
		}
		d.say("upload-certs", "Stored the authorities in Secret %q, encrypted, for two hours", certsSecret)
		return nil
	})
}

// UploadCerts stores the authorities of cluster. A bootstrap token without any
// right owns the Secret, so that both end together.
func UploadCerts(ctx context.Context, client kubernetes.Interface, cluster *config.Cluster, key string, now time.Time) error {
	aead, err := sealer(key)
	if err != nil {
		return err
	}
	data := map[string][]byte{}
	for _, name := range sharedFiles() {
		plain, err := os.ReadFile(filepath.Join(cluster.CertificatesDir, name))
		if err != nil {
			return err
		}
		if data[name], err = seal(aead, plain); err != nil {
			return err
		}
	}
	if e := cluster.Etcd.External; e != nil {
		plain, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if data[storeKey], err = seal(aead, plain); err != nil {
			return err
		}
	}
	t, err := token.New(now, certsTTL)
	if err != nil {
		return err
	}
	t.Usages, t.Groups = nil, nil
	t.Description = "Proxy for managing TTL for the kubeadm-certs secret"
	owner, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, t.ToSecret(), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("store the token that ends with the Secret %s: %w", certsSecret, err)
	}
	secret := &corev1.Secret{ObjectMeta: meta(metav1.NamespaceSystem, certsSecret), Data: data}
	secret.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("Secret"))}
	return ensure(ctx, client.CoreV1().Secrets(metav1.NamespaceSystem), secret)
}

// downloadCerts writes the authorities that UploadCerts stored to dir. It
// returns where the store is, when that was stored with them.
func downloadCerts(ctx context.Context, client kubernetes.Interface, dir, key string) (*config.ExternalEtcd, error) {
	aead, err := sealer(key)
	if err != nil {
		return nil, err
	}
	secret, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, certsSecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("the authorities are not in the cluster (they go after two hours): run `skiff init phase upload-certs --upload-certs` on a master: %w", err)
	}
	for _, name := range sharedFiles() {
		plain, err := unseal(aead, secret.Data[name])
		if err != nil {
			return nil, fmt.Errorf("%s of Secret %s: %w: is --certificate-key the one that was printed?", name, certsSecret, err)
		}
		if err := replaceFile(filepath.Join(dir, name), plain); err != nil {
			return nil, err
		}
	}
	sealed, ok := secret.Data[storeKey]
	if !ok {
		return nil, nil
	}
	plain, err := unseal(aead, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s of Secret %s: %w", storeKey, certsSecret, err)
	}
	external := &config.ExternalEtcd{}
	return external, json.Unmarshal(plain, external)
}
