// Package images makes sure that a container's image is on the node, by its
// pull policy, with credentials and back-off, and removes images nobody uses
// when space runs short.
package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/time/rate"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
	"k8s.io/klog/v2"

	"skiff/kubelet/bounded"
)

// Reasons why an image is not there; they show as a container's waiting reason.
var (
	ErrImagePullBackOff          = errors.New("ImagePullBackOff")
	ErrImageInspect              = errors.New("ImageInspectError")
	ErrImagePull                 = errors.New("ErrImagePull")
	ErrImageNeverPull            = errors.New("ErrImageNeverPull")
	ErrInvalidImageName          = errors.New("InvalidImageName")
	ErrRegistryUnavailable       = errors.New("RegistryUnavailable")
	ErrSignatureValidationFailed = errors.New("SignatureValidationFailed")
)

// Config configures a Puller.
type Config struct {
	Images   internalapi.ImageManagerService
	Recorder record.EventRecorder
	Keyring  *Keyring
	// Access says who may use images that are there already; nil lets everyone.
	Access *Access
	// Pulled, when set, is told when a pod's image was pulled.
	Pulled func(uid types.UID, from, to time.Time)
	// QPS and Burst bound pulls from registries; 0 means no bound.
	QPS   float64
	Burst int
	// Parallel is how many pulls run at once; 0 means no bound.
	Parallel int
}

// Puller ensures images.
type Puller struct {
	cfg     Config
	backoff *flowcontrol.Backoff
	limiter *rate.Limiter
	slots   chan struct{}

	mu       sync.Mutex // guards failures
	failures map[string]string
}

// New checks the configuration.
func New(cfg Config) (*Puller, error) {
	if cfg.Images == nil || cfg.Recorder == nil {
		return nil, errors.New("images: Images and Recorder are required")
	}
	if cfg.Keyring == nil {
		cfg.Keyring = &Keyring{}
	}
	p := &Puller{cfg: cfg, backoff: flowcontrol.NewBackOff(10*time.Second, 5*time.Minute), failures: map[string]string{}}
	if cfg.QPS > 0 {
		p.limiter = rate.NewLimiter(rate.Limit(cfg.QPS), max(cfg.Burst, 1))
	}
	if cfg.Parallel > 0 {
		p.slots = make(chan struct{}, cfg.Parallel)
	}
	return p, nil
}

// Request is one image to be ensured.
type Request struct {
	Pod *v1.Pod
	// Ref is the object that events are about.
	Ref            runtime.Object
	Image          string
	Policy         v1.PullPolicy
	Secrets        []v1.Secret
	Sandbox        *runtimeapi.PodSandboxConfig
	RuntimeHandler string
}

// Failure is an image that cannot be had, as the status of a container tells it.
type Failure struct {
	// Reason is one of the reasons above.
	Reason  error
	Message string
}

func (f *Failure) Error() string { return fmt.Sprintf("%v: %s", f.Reason, f.Message) }

func (f *Failure) Unwrap() error { return f.Reason }

// Ensure returns the image's reference in the runtime. On failure the error is
// one of the reasons above and the message says more.
func (p *Puller) Ensure(ctx context.Context, r Request) (ref, message string, err error) {
	image, policy, err := Normalize(r.Image, r.Policy)
	if err != nil {
		msg := fmt.Sprintf("Failed to apply default image tag %q: %v", r.Image, err)
		p.event(r, v1.EventTypeWarning, "InspectFailed", msg)
		return "", msg, ErrInvalidImageName
	}
	spec := &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: r.Image, Annotations: r.Pod.Annotations, RuntimeHandler: r.RuntimeHandler}
	status, err := p.cfg.Images.ImageStatus(ctx, spec, false)
	if err != nil {
		msg := fmt.Sprintf("Failed to inspect image %q: %v", image, err)
		p.event(r, v1.EventTypeWarning, "InspectFailed", msg)
		return "", msg, ErrImageInspect
	}
	present := status.GetImage().GetId()
	if present != "" && policy != v1.PullAlways && p.allowed(ctx, r, image, present) {
		p.event(r, v1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", r.Image))
		return present, "", nil
	}
	if policy == v1.PullNever {
		msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Image)
		p.event(r, v1.EventTypeWarning, "ErrImageNeverPull", msg)
		return "", msg, ErrImageNeverPull
	}
	key := fmt.Sprintf("%s_%s", r.Pod.UID, image)
	if p.backoff.IsInBackOffSinceUpdate(key, p.backoff.Clock.Now()) {
		msg := fmt.Sprintf("Back-off pulling image %q", r.Image)
		p.event(r, v1.EventTypeNormal, "BackOff", msg)
		if why := p.failure(key); why != "" {
			msg = fmt.Sprintf("%s: %s", msg, why)
		}
		return "", msg, ErrImagePullBackOff
	}
	return p.pull(ctx, r, spec, key)
}

func (p *Puller) pull(ctx context.Context, r Request, spec *runtimeapi.ImageSpec, key string) (string, string, error) {
	waitStart := time.Now()
	if p.slots != nil {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		case <-ctx.Done():
			return "", ctx.Err().Error(), ErrImagePull
		}
	}
	if p.limiter != nil && !p.limiter.Allow() {
		return p.failed(r, key, errors.New("pull QPS exceeded"))
	}
	if err := p.cfg.Access.begin(spec.Image); err != nil {
		return p.failed(r, key, err)
	}
	p.event(r, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", r.Image))
	start := time.Now()
	id, with, err := p.try(ctx, r, spec)
	known, size := id, uint64(0)
	if err == nil {
		// Some runtimes return another name than the one that the image is looked up by.
		if st, err := p.cfg.Images.ImageStatus(ctx, spec, false); err == nil && st.GetImage().GetId() != "" {
			known, size = st.GetImage().GetId(), st.GetImage().GetSize()
		}
	}
	if err = p.cfg.Access.end(spec.Image, known, with, err); err != nil {
		return p.failed(r, key, err)
	}
	if p.cfg.Pulled != nil {
		p.cfg.Pulled(r.Pod.UID, waitStart, time.Now())
	}
	p.forget(key)
	p.event(r, v1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		r.Image, time.Since(start).Truncate(time.Millisecond), time.Since(waitStart).Truncate(time.Millisecond), size))
	p.backoff.GC()
	return id, "", nil
}

// allowed tells whether the pod may use an image that is on the node. Where that
// cannot be told the registry decides.
func (p *Puller) allowed(ctx context.Context, r Request, image, ref string) bool {
	if p.cfg.Access == nil {
		return true
	}
	ok, err := p.cfg.Access.Allowed(image, ref, func() []Credential { return p.cfg.Keyring.Lookup(ctx, r.Pod, image, r.Secrets) })
	if err != nil {
		klog.FromContext(ctx).Info("Who may use an image is not known for sure", "image", image, "pod", klog.KObj(r.Pod), "err", err)
	}
	return ok
}

// try pulls without credentials when there are none, else with each set that
// matches until one works, which it returns.
func (p *Puller) try(ctx context.Context, r Request, spec *runtimeapi.ImageSpec) (string, *Credential, error) {
	creds := p.cfg.Keyring.Lookup(ctx, r.Pod, spec.Image, r.Secrets)
	if len(creds) == 0 {
		id, err := p.cfg.Images.PullImage(ctx, spec, nil, r.Sandbox)
		return id, nil, err
	}
	var errs []error
	for i := range creds {
		id, err := p.cfg.Images.PullImage(ctx, spec, creds[i].Auth, r.Sandbox)
		if err == nil {
			return id, &creds[i], nil
		}
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

func (p *Puller) failed(r Request, key string, err error) (string, string, error) {
	// A registry may answer with any text, of any length.
	why := bounded.Text(err.Error(), bounded.Message)
	reason, msg := ErrImagePull, why
	switch {
	case strings.Contains(msg, crierrors.ErrRegistryUnavailable.Error()):
		reason = ErrRegistryUnavailable
		msg = fmt.Sprintf("image pull failed for %s because the registry is unavailable: %s", r.Image, msg)
	case strings.Contains(msg, crierrors.ErrSignatureValidationFailed.Error()):
		reason = ErrSignatureValidationFailed
		msg = fmt.Sprintf("image pull failed for %s because the signature validation failed: %s", r.Image, msg)
	}
	p.event(r, v1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", r.Image, why))
	p.backoff.Next(key, p.backoff.Clock.Now())
	p.mu.Lock()
	p.failures[key] = fmt.Sprintf("%v: %v", reason, msg)
	p.mu.Unlock()
	return "", msg, reason
}

// BackOff is how long pulls of the pod's image wait after a failure.
func (p *Puller) BackOff(pod *v1.Pod, image string) time.Duration {
	if normal, _, err := Normalize(image, ""); err == nil {
		image = normal
	}
	return p.backoff.Get(fmt.Sprintf("%s_%s", pod.UID, image))
}

func (p *Puller) failure(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failures[key]
}

func (p *Puller) forget(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, key)
}

// ForgetPod drops what is remembered of a pod.
func (p *Puller) ForgetPod(pod *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.failures {
		if strings.HasPrefix(key, string(pod.UID)+"_") {
			delete(p.failures, key)
			p.backoff.DeleteEntry(key)
		}
	}
}

func (p *Puller) event(r Request, kind, reason, message string) {
	if r.Ref != nil {
		p.cfg.Recorder.Event(r.Ref, kind, reason, message)
	}
}

// Normalize adds the tag "latest" to a name that has neither tag nor digest,
// and fills in the pull policy that follows from the tag.
func Normalize(image string, policy v1.PullPolicy) (string, v1.PullPolicy, error) {
	ref, err := name.ParseReference(image, name.WeakValidation)
	if err != nil {
		return "", "", fmt.Errorf("couldn't parse image name %q: invalid reference format", image)
	}
	tag, tagged := ref.(name.Tag)
	if tagged && !strings.HasSuffix(image, ":"+tag.TagStr()) {
		image += ":" + tag.TagStr()
	}
	if policy == "" {
		policy = v1.PullIfNotPresent
		if tagged && tag.TagStr() == "latest" {
			policy = v1.PullAlways
		}
	}
	return image, policy, nil
}
