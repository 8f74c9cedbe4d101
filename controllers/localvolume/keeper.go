package localvolume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"skiff/controllers/loop"
)

// Config is what the keeper needs.
type Config struct {
	// Client acts as the node. Required.
	Client kubernetes.Interface
	// NodeName is the node's. Required.
	NodeName string
	// Directory holds the volumes. Required, absolute.
	Directory string
}

// Keeper makes and removes the directories of one node's volumes.
type Keeper struct {
	config Config
}

// New checks the configuration.
func New(c Config) (*Keeper, error) {
	var errs []error
	if c.Client == nil {
		errs = append(errs, errors.New("localvolume: Client is nil: give the node's API client"))
	}
	if c.NodeName == "" {
		errs = append(errs, errors.New("localvolume: NodeName is empty: give the node's name"))
	}
	if !usable(c.Directory) {
		errs = append(errs, fmt.Errorf("localvolume: Directory is %q: give an absolute path below the root", c.Directory))
	}
	return &Keeper{c}, errors.Join(errs...)
}

// Run blocks until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.config.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, k.config.NodeName).String()
	}))
	nodes := factory.Core().V1().Nodes()
	parts, err := loop.Parts{Client: k.config.Client, Informers: factory, Workers: 1}.Complete("localvolume")
	if err != nil {
		return err
	}
	l := loop.New("localvolume", parts, func(ctx context.Context, name string) error {
		node, err := nodes.Lister().Get(name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return k.keep(ctx, node)
	})
	l.On(nodes.Informer(), loop.Changed(func(n *v1.Node) { l.Add(n.Name) }))
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	return l.Run(ctx)
}

func (k *Keeper) keep(ctx context.Context, node *v1.Node) error {
	asked, remove := Names(node.Annotations[Make]), Names(node.Annotations[Reclaim])
	done := Names(node.Annotations[Reclaimed])
	var errs []error
	for _, name := range asked {
		if !slices.Contains(remove, name) {
			errs = append(errs, k.create(name))
		}
	}
	var gone []string
	for _, name := range remove {
		if !slices.Contains(done, name) {
			if err := k.remove(name); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		gone = append(gone, name)
	}
	if value := Value(gone); value != node.Annotations[Reclaimed] || k.config.Directory != node.Annotations[Directory] {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{Reclaimed: value, Directory: k.config.Directory}}})
		if err != nil {
			return err
		}
		_, err = k.config.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// create makes a volume's directory so that any user of a pod can write to it.
func (k *Keeper) create(name string) error {
	path := filepath.Join(k.config.Directory, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	// Once in use the mode is its users' business.
	if info.Mode().Perm() != 0o777 && len(entries) == 0 {
		if err := os.Chmod(path, 0o777); err != nil {
			return fmt.Errorf("make volume %s: %w", name, err)
		}
	}
	return nil
}

// remove deletes a volume's directory. A root handle keeps links inside it from
// leading anywhere else.
func (k *Keeper) remove(name string) error {
	root, err := os.OpenRoot(k.config.Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	defer root.Close()
	if err := root.RemoveAll(name); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}
