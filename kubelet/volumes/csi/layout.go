package csi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// layout names the places of volumes on the node, as every kubelet has them,
// so that a node can be taken over:
//
//	ROOT/plugins/kubernetes.io/csi/DRIVER/SHA256(HANDLE)/globalmount   staged file systems
//	ROOT/plugins/kubernetes.io/csi/volumeDevices/staging/PV            staged devices
//	ROOT/plugins/kubernetes.io/csi/volumeDevices/publish/PV/POD        published devices
//	ROOT/pods/POD/volumes/kubernetes.io~csi/PV/mount                   published file systems
//	ROOT/pods/POD/volumeDevices/kubernetes.io~csi/PV                   links to devices
//
// A file vol_data.json beside each says what it is; the file is written before
// the driver is asked and removed after it has undone its work.
type layout struct{ root string }

const (
	dataFile    = "vol_data.json"
	deviceDir   = "volumeDevices"
	globalMount = "globalmount"
	podKind     = "kubernetes.io~csi"
)

func (l layout) plugin() string { return filepath.Join(l.root, "plugins", "kubernetes.io", "csi") }
func (l layout) pods() string   { return filepath.Join(l.root, "pods") }

// staging is where a volume is staged, and where its data file is.
func (l layout) staging(k key, spec string, block bool) (path, data string) {
	if block {
		return filepath.Join(l.plugin(), deviceDir, "staging", spec), filepath.Join(l.plugin(), deviceDir, spec, "data")
	}
	dir := filepath.Join(l.plugin(), k.driver, fmt.Sprintf("%x", sha256.Sum256([]byte(k.handle))))
	return filepath.Join(dir, globalMount), dir
}

// device is where a block volume is published for a pod.
func (l layout) device(u use) string {
	return filepath.Join(l.plugin(), deviceDir, "publish", u.spec, u.pod)
}

// owner tells whose volume a pod's folder of a volume is.
func (l layout) owner(dir string) (u use, block bool) {
	kind := filepath.Dir(filepath.Dir(dir))
	return use{pod: filepath.Base(filepath.Dir(kind)), spec: filepath.Base(dir)}, filepath.Base(kind) == deviceDir
}

// note is what vol_data.json holds. Other kubelets write and read the same.
type note struct {
	Spec       string `json:"specVolID,omitempty"`
	Handle     string `json:"volumeHandle,omitempty"`
	Driver     string `json:"driverName,omitempty"`
	Node       string `json:"nodeName,omitempty"`
	Attachment string `json:"attachmentID,omitempty"`
	Lifecycle  string `json:"volumeLifecycleMode,omitempty"`
	SELinux    string `json:"seLinuxMountContext,omitempty"`
	// Pending says that the volume was being published; it is only written here.
	Pending string `json:"pending,omitempty"`
}

func (r *note) key() key { return key{r.Driver, r.Handle} }

func (r *note) ephemeral() bool { return r.Lifecycle == "Ephemeral" }

// readNote returns nil when dir has none.
func readNote(dir string) (*note, error) {
	data, err := os.ReadFile(filepath.Join(dir, dataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &note{}
	if err := json.Unmarshal(data, out); err != nil || out.Driver == "" || out.Handle == "" {
		// A torn file of a kubelet that wrote in place: the volume was not touched yet.
		return nil, nil
	}
	return out, nil
}

// write replaces the note in dir, which survives a crash in either version.
func (r note) write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+dataFile)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, dataFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// forget removes the note of dir and what an interrupted write left.
func forget(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "."+dataFile+"*"))
	if err != nil {
		return err
	}
	for _, name := range append(left, filepath.Join(dir, dataFile)) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
