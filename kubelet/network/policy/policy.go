package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/google/nftables"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/knftables"
)

// Table is the name of the nftables table, of the family inet.
const Table = "skiff-policy"

// Config configures an Enforcer.
type Config struct {
	// NodeName is the node whose pods are guarded.
	NodeName string
	// The informers must see the pods, namespaces and policies of the whole
	// cluster; their factory is started by its owner.
	Pods       coreinformers.PodInformer
	Namespaces coreinformers.NamespaceInformer
	Policies   networkinginformers.NetworkPolicyInformer
	// File keeps the addresses of pods that the API server does not know yet: where
	// the process is killed before it has told them, the next one guards them all the
	// same. It is best where a restart of the machine loses it. Empty for none.
	File string
	// NFT writes to the kernel. Default: the nft command, for Table.
	NFT knftables.Interface
	// Settle is how long changes are gathered before they are written. Default 50 ms.
	Settle time.Duration
	// Check is how often the table is looked for, and written anew where others
	// flushed it. Default 10 seconds: without it every pod is open.
	Check time.Duration
	// Resync is how often the whole table is written anew, to repair what else
	// others broke. Default 10 minutes.
	Resync time.Duration
}

// Enforcer keeps the kernel's rules in step with the NetworkPolicies.
type Enforcer struct {
	cfg     Config
	changed chan struct{}
	urgent  chan chan<- error // answered when all that was known before is written
	early   early
	written *state // nil when what the kernel holds is not known
}

// New checks the configuration.
func New(cfg Config) (*Enforcer, error) {
	if cfg.NodeName == "" || cfg.Pods == nil || cfg.Namespaces == nil || cfg.Policies == nil {
		return nil, errors.New("network policy: NodeName, Pods, Namespaces and Policies are required")
	}
	if cfg.Settle == 0 {
		cfg.Settle = 50 * time.Millisecond
	}
	if cfg.Check == 0 {
		cfg.Check = 10 * time.Second
	}
	if cfg.Resync == 0 {
		cfg.Resync = 10 * time.Minute
	}
	return &Enforcer{
		cfg: cfg, changed: make(chan struct{}, 1), urgent: make(chan chan<- error),
		early: early{file: cfg.File, pods: make(map[types.NamespacedName]*v1.Pod), before: make(map[types.NamespacedName]bool)},
	}, nil
}

// Run enforces until ctx ends. The rules stay, so that a restart opens nothing.
func (e *Enforcer) Run(ctx context.Context) error {
	if e.cfg.NFT == nil {
		nft, err := knftables.New(knftables.InetFamily, Table)
		if err != nil {
			return fmt.Errorf("network policy: %w; install the package nftables", err)
		}
		e.cfg.NFT = nft
	}
	log := klog.FromContext(ctx)
	if err := e.early.load(); err != nil {
		log.Error(err, "Could not read which pods were just started", "part", "network policy")
	}
	var synced []cache.InformerSynced
	for _, informer := range []cache.SharedIndexInformer{e.cfg.Pods.Informer(), e.cfg.Namespaces.Informer(), e.cfg.Policies.Informer()} {
		reg, err := informer.AddEventHandler(e.handler())
		if err != nil {
			return fmt.Errorf("network policy: %w", err)
		}
		defer func() {
			if err := informer.RemoveEventHandler(reg); err != nil {
				log.Error(err, "Could not leave an informer", "part", "network policy")
			}
		}()
		synced = append(synced, informer.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	check := time.NewTicker(e.cfg.Check)
	defer check.Stop()
	resync := time.NewTicker(e.cfg.Resync)
	defer resync.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		var waiting []chan<- error
		select {
		case <-ctx.Done():
			return nil
		case w := <-e.urgent:
			waiting = append(waiting, w)
		case <-e.changed:
			select {
			case <-ctx.Done():
				return nil
			case w := <-e.urgent:
				waiting = append(waiting, w)
			case <-time.After(e.cfg.Settle):
			}
		case <-check.C:
			ok, err := intact()
			if err != nil {
				log.Error(err, "Could not look for the rules of the NetworkPolicies")
			}
			if ok {
				continue
			}
			log.Info("The rules of the NetworkPolicies are gone; they are written again")
			e.written = nil
		case <-resync.C:
			e.written = nil
		case <-retry.C:
		}
		waiting = e.join(waiting)
		err := e.sync(ctx)
		if err != nil {
			log.Error(err, "Could not write the rules of the NetworkPolicies")
			retry.Reset(2 * time.Second)
		}
		for _, w := range waiting {
			w <- err
		}
	}
}

// join takes all who wait for the same write.
func (e *Enforcer) join(waiting []chan<- error) []chan<- error {
	for {
		select {
		case w := <-e.urgent:
			waiting = append(waiting, w)
		default:
			return waiting
		}
	}
}

// intact tells whether the chain that every packet passes is there. It asks the
// kernel itself: the nft program would read all sets to list a chain.
func intact() (bool, error) {
	kernel, err := nftables.New()
	if err != nil {
		return false, err
	}
	rules, err := kernel.GetRules(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet}, &nftables.Chain{Name: forwardChain})
	return len(rules) > 0, err
}

func (e *Enforcer) handler() cache.ResourceEventHandler {
	wake := func() {
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() },
		DeleteFunc: func(obj any) {
			e.early.forget(obj)
			wake()
		},
		UpdateFunc: func(before, after any) {
			a, okA := before.(*v1.Pod)
			b, okB := after.(*v1.Pod)
			if okA && okB && maps.Equal(a.Labels, b.Labels) && slices.Equal(addresses(a), addresses(b)) && a.Spec.NodeName == b.Spec.NodeName {
				return
			}
			wake()
		},
	}
}

func (e *Enforcer) sync(ctx context.Context) error {
	in := input{node: e.cfg.NodeName}
	var err error
	if in.policies, err = e.cfg.Policies.Lister().List(labels.Everything()); err != nil {
		return err
	}
	if in.pods, err = e.cfg.Pods.Lister().List(labels.Everything()); err != nil {
		return err
	}
	in.pods = e.early.merge(in.pods)
	if in.namespaces, err = e.cfg.Namespaces.Lister().List(labels.Everything()); err != nil {
		return err
	}
	next, err := compute(in)
	if err != nil {
		return err
	}
	if e.written != nil && reflect.DeepEqual(e.written, next) {
		return nil
	}
	tx := e.cfg.NFT.NewTransaction()
	write(tx, e.written, next)
	if tx.NumOperations() == 0 {
		e.written = next
		return nil
	}
	if err := e.cfg.NFT.Run(ctx, tx); err != nil {
		// What the kernel holds now is in doubt; the next try writes it all.
		e.written = nil
		return err
	}
	e.written = next
	return nil
}
