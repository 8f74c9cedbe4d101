package claims

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"skiff/kubelet/statefile"
	"skiff/kubelet/statefile/checksum"
)

// The checkpoint's form is upstream's: a JSON text in a JSON object, with the
// text's checksum.
const (
	checkpointFile    = "dra_manager_state"
	checkpointVersion = "checkpoint.dra.kubelet.k8s.io/v1"
	checkpointKind    = "DRACheckpoint"
)

type envelope struct {
	Data     string
	Checksum uint32
}

type document struct {
	metav1.TypeMeta
	ClaimInfoStateList []claimState
}

type claimState struct {
	ClaimUID    types.UID
	ClaimName   string
	Namespace   string
	PodUIDs     sets.Set[string]
	DriverState map[string]driverState
}

type driverState struct {
	Devices []deviceState
}

type deviceState struct {
	PoolName     string
	DeviceName   string
	ShareID      *types.UID `json:",omitempty"`
	RequestNames []string
	CDIDeviceIDs []string
}

func encode(claims map[types.NamespacedName]*claim) ([]byte, error) {
	d := document{TypeMeta: metav1.TypeMeta{APIVersion: checkpointVersion, Kind: checkpointKind}}
	for _, c := range claims {
		st := claimState{ClaimUID: c.uid, ClaimName: c.name.Name, Namespace: c.name.Namespace, PodUIDs: sets.New[string](), DriverState: map[string]driverState{}}
		for uid := range c.pods {
			st.PodUIDs.Insert(string(uid))
		}
		for driver, devices := range c.devices {
			list := make([]deviceState, 0, len(devices))
			for _, dev := range devices {
				list = append(list, deviceState{PoolName: dev.Pool, DeviceName: dev.Name, ShareID: dev.ShareID, RequestNames: dev.Requests, CDIDeviceIDs: dev.CDI})
			}
			st.DriverState[driver] = driverState{Devices: list}
		}
		d.ClaimInfoStateList = append(d.ClaimInfoStateList, st)
	}
	slices.SortFunc(d.ClaimInfoStateList, func(a, b claimState) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ClaimName, b.ClaimName))
	})
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{Data: string(text), Checksum: crc32.ChecksumIEEE(text)})
}

func decode(data []byte) (map[types.NamespacedName]*claim, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	if sum := crc32.ChecksumIEEE([]byte(e.Data)); sum != e.Checksum {
		return nil, fmt.Errorf("%w: checksum %d, want %d", checksum.ErrCorrupt, e.Checksum, sum)
	}
	var d document
	if err := json.Unmarshal([]byte(e.Data), &d); err != nil {
		return nil, err
	}
	out := map[types.NamespacedName]*claim{}
	for _, st := range d.ClaimInfoStateList {
		c := &claim{uid: st.ClaimUID, name: types.NamespacedName{Namespace: st.Namespace, Name: st.ClaimName}, pods: map[types.UID]bool{}, devices: map[string][]device{}}
		for uid := range st.PodUIDs {
			c.pods[types.UID(uid)] = true
		}
		for driver, state := range st.DriverState {
			c.devices[driver] = nil
			for _, dev := range state.Devices {
				c.devices[driver] = append(c.devices[driver], device{Pool: dev.PoolName, Name: dev.DeviceName, ShareID: dev.ShareID, Requests: dev.RequestNames, CDI: dev.CDIDeviceIDs})
			}
		}
		out[c.name] = c
	}
	return out, nil
}

func (m *Manager) file() string { return filepath.Join(m.cfg.Dir, checkpointFile) }

// Restore reads what an earlier kubelet had prepared. Drivers are asked again
// for each pod that starts: preparing is idempotent.
func (m *Manager) Restore() error {
	data, err := statefile.Read(m.file())
	if err != nil || data == nil {
		return err
	}
	claims, err := decode(data)
	if err != nil {
		return fmt.Errorf("%s: %w; drain the node and remove the file", m.file(), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims = claims
	return nil
}

// save writes the checkpoint; the caller holds the lock.
func (m *Manager) save() error {
	data, err := encode(m.claims)
	if err != nil {
		return err
	}
	return statefile.Write(m.file(), data)
}

// Gone lists the pods that claims are kept for and that are not known.
func (m *Manager) Gone(known func(types.UID) bool) []types.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[types.UID]bool{}
	for _, c := range m.claims {
		for uid := range c.pods {
			if !known(uid) {
				out[uid] = true
			}
		}
	}
	return slices.Collect(maps.Keys(out))
}
