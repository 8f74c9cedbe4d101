package authn

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"
)

// caCheckInterval is how often at most a use of the bundle looks at the file.
const caCheckInterval = time.Second

// CABundle is a file of PEM certificates that is read again when it changes.
// It needs no goroutine: a use looks at the file's time at most once a second.
type CABundle struct {
	path string
	now  func() time.Time

	mu      sync.Mutex // guards what follows
	checked time.Time
	stamp   fileStamp
	pem     []byte
	pool    *x509.CertPool
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// NewCABundle reads the file and fails when it has no certificate.
func NewCABundle(path string) (*CABundle, error) {
	b := &CABundle{path: path, now: time.Now}
	if err := b.load(); err != nil {
		return nil, err
	}
	b.checked = b.now()
	return b, nil
}

func (b *CABundle) load() error {
	info, err := os.Stat(b.path)
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	stamp := fileStamp{info.ModTime(), info.Size()}
	if stamp == b.stamp {
		return nil
	}
	data, err := os.ReadFile(b.path)
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	certs, err := cert.ParseCertsPEM(data)
	if err != nil {
		return fmt.Errorf("client CA %s: %w", b.path, err)
	}
	if len(certs) == 0 {
		return fmt.Errorf("client CA %s: %w", b.path, errors.New("no certificate in the file"))
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	b.stamp, b.pem, b.pool = stamp, data, pool
	return nil
}

// refresh keeps the former bundle when the new file is not usable.
func (b *CABundle) refresh() {
	if now := b.now(); now.Sub(b.checked) >= caCheckInterval {
		b.checked = now
		if err := b.load(); err != nil {
			klog.ErrorS(err, "Client CA cannot be reloaded, keeping the former one", "file", b.path)
		}
	}
}

// Pool is the current set of roots. It must not be changed.
func (b *CABundle) Pool() *x509.CertPool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refresh()
	return b.pool
}

// PEM is the current content of the file. It must not be changed.
func (b *CABundle) PEM() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refresh()
	return b.pem
}

// VerifyOptions are those for client certificates signed by the bundle.
func (b *CABundle) VerifyOptions() (x509.VerifyOptions, bool) {
	opts := x509request.DefaultVerifyOptions()
	opts.Roots = b.Pool()
	return opts, true
}
