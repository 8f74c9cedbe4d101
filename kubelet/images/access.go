package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/statefile"
)

const (
	// noteBelow bounds the secrets that are noted for an image by use alone.
	noteBelow = 100
	// maxRecord bounds a record that is read.
	maxRecord = 4 << 20
)

// AccessConfig says whose credentials count for an image that the node has already
// (KEP-2535).
type AccessConfig struct {
	// Dir keeps what is known of earlier pulls. It is required.
	Dir    string
	Policy kubeletv1beta1.ImagePullCredentialsVerificationPolicy
	// Allowlist are repositories, and prefixes that end in /*, of images that the
	// policy NeverVerifyAllowlistedImages lets everyone use.
	Allowlist []string
	Now       func() time.Time
}

// Access remembers with which credentials images were pulled: an image that took a
// secret to get is no more open to pods without one once it is on the node.
type Access struct {
	cfg AccessConfig

	mu      sync.Mutex // guards what follows, and the files
	pulling map[string]int
	records map[string]*kubeletv1beta1.ImagePulledRecord // by the runtime's reference
}

// NewAccess reads what earlier kubelets noted. A record that cannot be read is as one
// without credentials: its image is verified again.
func NewAccess(cfg AccessConfig) (*Access, error) {
	if cfg.Dir == "" {
		return nil, errors.New("images: the folder of pull records is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Access{cfg: cfg, pulling: map[string]int{}, records: map[string]*kubeletv1beta1.ImagePulledRecord{}}
	files, err := os.ReadDir(a.dir("pulled"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pull records: %w", err)
	}
	for _, f := range files {
		file := filepath.Join(a.dir("pulled"), f.Name())
		if info, err := f.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > maxRecord {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("pull records: %w", err)
		}
		r := &kubeletv1beta1.ImagePulledRecord{}
		if json.Unmarshal(data, r) == nil && r.ImageRef != "" && digest(r.ImageRef) == f.Name() {
			a.records[r.ImageRef] = r
		}
	}
	return a, nil
}

func (a *Access) dir(kind string) string { return filepath.Join(a.cfg.Dir, kind) }

// file is named by a digest: a reference may have any character.
func (a *Access) file(kind, of string) string { return filepath.Join(a.dir(kind), digest(of)) }

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Begin notes that the kubelet pulls an image, so that one whose pull is interrupted
// does not look as if somebody else had brought it.
func (a *Access) Begin(image string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pulling[image] == 0 {
		data, err := json.Marshal(kubeletv1beta1.ImagePullIntent{TypeMeta: typeMeta("ImagePullIntent"), Image: image})
		if err != nil {
			return err
		}
		if err := statefile.Write(a.file("pulling", image), data); err != nil {
			return fmt.Errorf("note the pull of %s: %w", image, err)
		}
	}
	a.pulling[image]++
	return nil
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: kubeletv1beta1.SchemeGroupVersion.String()}
}

// begin is Begin of an Access that may be nil.
func (a *Access) begin(image string) error {
	if a == nil {
		return nil
	}
	return a.Begin(image)
}

// end notes how a pull ended, and returns its error, or that of the note.
func (a *Access) end(image, ref string, with *Credential, err error) error {
	switch {
	case a == nil:
		return err
	case err != nil:
		return errors.Join(err, a.Failed(image))
	}
	return a.Pulled(image, ref, with)
}

// Failed notes that a pull brought nothing.
func (a *Access) Failed(image string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended(image)
}

// ended forgets a pull once nobody else pulls the same; the caller holds mu.
func (a *Access) ended(image string) error {
	if a.pulling[image]--; a.pulling[image] > 0 {
		return nil
	}
	delete(a.pulling, image)
	if err := os.Remove(a.file("pulling", image)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Pulled notes with what an image was pulled; nil is without credentials.
func (a *Access) Pulled(image, ref string, with *Credential) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.note(image, ref, with); err != nil {
		// The pull stays noted: the image is verified until its record is written.
		a.pulling[image]--
		if a.pulling[image] <= 0 {
			delete(a.pulling, image)
		}
		return fmt.Errorf("note who may use %s: %w", image, err)
	}
	return a.ended(image)
}

// note adds to an image's record; the caller holds mu.
func (a *Access) note(image, ref string, with *Credential) error {
	repo, err := repository(image)
	if err != nil {
		return err
	}
	old := a.records[ref]
	next := &kubeletv1beta1.ImagePulledRecord{TypeMeta: typeMeta("ImagePulledRecord"), ImageRef: ref, CredentialMapping: map[string]kubeletv1beta1.ImagePullCredentials{}}
	if old != nil {
		for key, c := range old.CredentialMapping {
			next.CredentialMapping[key] = c
		}
	}
	known, changed := merge(next.CredentialMapping[repo], with)
	if old != nil && !changed {
		return nil
	}
	next.CredentialMapping[repo], next.LastUpdatedTime = known, metav1.NewTime(a.cfg.Now())
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := statefile.Write(a.file("pulled", ref), data); err != nil {
		return err
	}
	a.records[ref] = next
	return nil
}

// merge adds a credential to those that are known, and tells whether that changes them.
func merge(known kubeletv1beta1.ImagePullCredentials, with *Credential) (kubeletv1beta1.ImagePullCredentials, bool) {
	switch {
	case known.NodePodsAccessible:
		return known, false
	case with.ofNode():
		return kubeletv1beta1.ImagePullCredentials{NodePodsAccessible: true}, true
	case with.Secret != nil:
		if slices.Contains(known.KubernetesSecrets, *with.Secret) {
			return known, false
		}
		others := slices.DeleteFunc(slices.Clone(known.KubernetesSecrets), func(s kubeletv1beta1.ImagePullSecret) bool { return same(s, *with.Secret) })
		known.KubernetesSecrets = append(others, *with.Secret)
	default:
		if slices.Contains(known.KubernetesServiceAccounts, *with.ServiceAccount) {
			return known, false
		}
		known.KubernetesServiceAccounts = append(slices.Clone(known.KubernetesServiceAccounts), *with.ServiceAccount)
	}
	return known, true
}

func same(a, b kubeletv1beta1.ImagePullSecret) bool {
	return a.UID == b.UID && a.Namespace == b.Namespace && a.Name == b.Name
}

// Allowed tells whether a pod may use an image that is on the node without asking its
// registry. credentials are those that the pod has, asked for only where they matter.
func (a *Access) Allowed(image, ref string, credentials func() []Credential) (bool, error) {
	a.mu.Lock()
	record, intended := a.records[ref], a.intended(image)
	a.mu.Unlock()
	repo, err := repository(image)
	if err != nil {
		return false, err
	}
	if !a.verifies(repo, record != nil || intended) {
		return true, nil
	}
	if record == nil {
		return false, nil
	}
	known := record.CredentialMapping[repo]
	if known.NodePodsAccessible {
		return true, nil
	}
	if len(known.KubernetesSecrets)+len(known.KubernetesServiceAccounts) == 0 {
		return false, nil
	}
	for _, has := range credentials() {
		if has.ServiceAccount != nil && slices.Contains(known.KubernetesServiceAccounts, *has.ServiceAccount) {
			return true, nil
		}
		if has.Secret == nil {
			continue
		}
		for _, s := range known.KubernetesSecrets {
			content, place := s.CredentialHash != "" && s.CredentialHash == has.Secret.CredentialHash, same(s, *has.Secret)
			if !content && !place {
				continue
			}
			// A secret of the same content, or of new content in the same place, is as
			// good from now on.
			if content && place || len(known.KubernetesSecrets) >= noteBelow {
				return true, nil
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return true, a.note(image, ref, &has)
		}
	}
	return false, nil
}

// intended tells of a pull that goes on, or was interrupted; the caller holds mu.
func (a *Access) intended(image string) bool {
	if a.pulling[image] > 0 {
		return true
	}
	_, err := os.Lstat(a.file("pulling", image))
	return !errors.Is(err, fs.ErrNotExist)
}

// verifies is the policy.
func (a *Access) verifies(repo string, pulled bool) bool {
	switch a.cfg.Policy {
	case kubeletv1beta1.NeverVerify:
		return false
	case kubeletv1beta1.AlwaysVerify:
		return true
	case kubeletv1beta1.NeverVerifyAllowlistedImages:
		return pulled || !slices.ContainsFunc(a.cfg.Allowlist, func(entry string) bool { return listed(entry, repo) })
	}
	return pulled
}

// listed tells whether an entry of the allowlist names a repository.
func listed(entry, repo string) bool {
	if prefix, ok := strings.CutSuffix(entry, "/*"); ok {
		return strings.HasPrefix(repo, prefix+"/")
	}
	full, err := repository(entry)
	return err == nil && full == repo
}

// ValidAllowlist says what is wrong with an entry of the allowlist.
func ValidAllowlist(entry string) error {
	plain := strings.TrimSuffix(entry, "/*")
	if plain == "" || strings.Contains(plain, "*") {
		return errors.New("a wildcard can only be the whole last segment, as in registry.example/team/*")
	}
	if host, _, _ := strings.Cut(plain, "/"); plain == host && strings.HasSuffix(entry, "/*") {
		_, err := name.NewRegistry(host)
		return err
	}
	if _, err := name.NewRepository(plain); err != nil {
		return fmt.Errorf("an image without tag and digest is wanted: %w", err)
	}
	return nil
}

// Forget drops the records of images that the node has no more.
func (a *Access) Forget(exists func(ref string) bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for ref := range a.records {
		// One that is being pulled may not be listed yet.
		if exists(ref) || len(a.pulling) > 0 {
			continue
		}
		if err := os.Remove(a.file("pulled", ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(a.records, ref)
	}
	return errors.Join(errs...)
}

// repository is an image's name without tag and digest, in full.
func repository(image string) (string, error) {
	r, err := name.ParseReference(image, name.WeakValidation)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	full := r.Context().Name()
	if rest, ok := strings.CutPrefix(full, name.DefaultRegistry+"/"); ok {
		full = "docker.io/" + rest
	}
	return full, nil
}
