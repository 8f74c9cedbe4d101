// Package scheduler places pods on nodes: it watches the API, keeps a queue of
// pods and a cache of nodes, decides on a snapshot, and binds.
package scheduler

import (
	"errors"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/clock"

	"skiff/scheduler/cache"
	"skiff/scheduler/config"
	"skiff/scheduler/extender"
	"skiff/scheduler/framework"
	fwruntime "skiff/scheduler/framework/runtime"
	"skiff/scheduler/metrics"
	"skiff/scheduler/plugins/builtin"
	"skiff/scheduler/queue"
)

// Config is what New needs.
type Config struct {
	// Client writes bindings, statuses and events. Required.
	Client kubernetes.Interface
	// Informers is a factory that the caller starts, after New. Run starts it
	// too, which does nothing when it runs already. Required.
	Informers informers.SharedInformerFactory
	// Configuration holds profiles and extenders; nil is the default.
	Configuration *configv1.KubeSchedulerConfiguration
	// Plugins are in addition to the built-in ones; they follow them in MultiPoint.
	Plugins []builtin.Entry
	// Recorder records events; nil makes one per profile that writes to the API.
	Recorder events.EventRecorder
	// Clock defaults to the real one.
	Clock clock.Clock
	// Metrics may be nil.
	Metrics *metrics.Metrics
}

// Scheduler is the running part. Make one with New.
type Scheduler struct {
	cfg       Config
	conf      *configv1.KubeSchedulerConfiguration
	clock     clock.Clock
	metrics   *metrics.Metrics
	profiles  map[string]*profile
	queue     *queue.Queue
	cache     *cache.Cache
	snapshot  *cache.Snapshot
	extenders []framework.Extender
	synced    []toolscache.InformerSynced

	// next is where the search over nodes starts.
	next int

	broadcaster events.EventBroadcaster

	// background is guarded: Go must not add once the end has begun.
	mu         sync.Mutex
	ending     bool
	background sync.WaitGroup
	ctx        backgroundContext
}

// profile is a framework with what belongs to its scheduler name.
type profile struct {
	*fwruntime.Framework
	recorder events.EventRecorder
	percent  int32
}

// New checks the configuration and makes the plugins.
func New(c Config) (*Scheduler, error) {
	if c.Client == nil || c.Informers == nil {
		return nil, errors.New("scheduler: Client and Informers are required")
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	conf := c.Configuration
	if conf == nil {
		conf = config.Default()
	} else {
		conf = conf.DeepCopy()
		config.SetDefaults(conf)
		if err := config.Validate(conf); err != nil {
			return nil, fmt.Errorf("scheduler: %w", err)
		}
	}
	s := &Scheduler{cfg: c, conf: conf, clock: c.Clock, metrics: c.Metrics, profiles: map[string]*profile{}, snapshot: cache.NewSnapshot(),
		cache: cache.New(cache.Config{Clock: c.Clock})}
	for i := range conf.Extenders {
		e, err := extender.New(&conf.Extenders[i])
		if err != nil {
			return nil, fmt.Errorf("scheduler: extenders[%d]: %w", i, err)
		}
		s.extenders = append(s.extenders, e)
	}
	if c.Recorder == nil {
		s.broadcaster = events.NewBroadcaster(&events.EventSinkImpl{Interface: c.Client.EventsV1()})
	}
	if err := s.makeProfiles(); err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	return s, s.listen()
}

func (s *Scheduler) makeProfiles() error {
	entries := append(builtin.Entries(), s.cfg.Plugins...)
	registry := builtin.Registry(entries)
	hints := map[string]map[string][]framework.EventHint{}
	var first *profile
	for i := range s.conf.Profiles {
		p := &s.conf.Profiles[i]
		name := *p.SchedulerName
		points, weights, err := config.Points(p, entries)
		if err != nil {
			return fmt.Errorf("profiles[%d]: %w", i, err)
		}
		pr := &profile{recorder: s.cfg.Recorder, percent: *s.conf.PercentageOfNodesToScore}
		if p.PercentageOfNodesToScore != nil {
			pr.percent = *p.PercentageOfNodesToScore
		}
		if pr.recorder == nil {
			pr.recorder = s.broadcaster.NewRecorder(eventScheme(), name)
		}
		pr.Framework, err = fwruntime.New(fwruntime.Config{Profile: name, Points: points, Weights: weights, Args: config.Args(p),
			Registry: registry, Handle: &handle{s: s, recorder: pr.recorder}, Metrics: s.metrics})
		if err != nil {
			return err
		}
		if first == nil {
			first = pr
		} else if first.QueueSortName() != pr.QueueSortName() {
			return fmt.Errorf("profile %q: different queue sort plugins for profile %q: %q, first: %q", name, name, pr.QueueSortName(), first.QueueSortName())
		}
		s.profiles[name], hints[name] = pr, pr.EventsToRegister()
	}
	s.queue = queue.New(queue.Config{
		Less: first.Less, Hints: hints, Clock: s.clock, Metrics: s.metrics,
		InitialBackoff: seconds(*s.conf.PodInitialBackoffSeconds), MaxBackoff: seconds(*s.conf.PodMaxBackoffSeconds),
		PreEnqueue: func(pod *v1.Pod) *framework.Status {
			if pr := s.profiles[pod.Spec.SchedulerName]; pr != nil {
				return pr.RunPreEnqueue(s.ctx.get(), pod)
			}
			return nil
		},
	})
	return nil
}

// eventScheme knows the kinds that events are about.
func eventScheme() *runtime.Scheme {
	sc := runtime.NewScheme()
	if err := v1.AddToScheme(sc); err != nil {
		klog.ErrorS(err, "Registering core/v1 for events failed")
	}
	return sc
}

// Pending counts the pods per place of the queue.
func (s *Scheduler) Pending() map[string]int { return s.queue.Pending() }
