// Package checkpoint is the file in which the kubelet keeps which container has
// which devices. Its form, and the names of the types that its checksum covers,
// are upstream's.
package checkpoint

import (
	"encoding/json"
	"fmt"

	"skiff/kubelet/statefile/checksum"
)

// File is its name, in the folder of the device plugins.
const File = "kubelet_internal_checkpoint"

// DevicesPerNUMA are device identifiers by NUMA node; -1 holds those that are
// near none.
type DevicesPerNUMA map[int64][]string

// PodDevicesEntry is what one container has of one resource.
type PodDevicesEntry struct {
	PodUID        string
	ContainerName string
	ResourceName  string
	DeviceIDs     DevicesPerNUMA
	// AllocResp is the plugin's answer, as its message is on the wire.
	AllocResp []byte
}

type checkpointData struct {
	PodDeviceEntries  []PodDevicesEntry
	RegisteredDevices map[string][]string
}

type document struct {
	Data     checkpointData
	Checksum checksum.Checksum
}

// Encode writes the file's content.
func Encode(entries []PodDevicesEntry, registered map[string][]string) ([]byte, error) {
	d := document{Data: checkpointData{PodDeviceEntries: entries, RegisteredDevices: registered}}
	d.Checksum = checksum.New(d.Data)
	return json.Marshal(d)
}

// Decode reads the file's content.
func Decode(data []byte) ([]PodDevicesEntry, map[string][]string, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, nil, fmt.Errorf("device checkpoint: %w", err)
	}
	if err := d.Checksum.Verify(d.Data); err != nil {
		return nil, nil, fmt.Errorf("device checkpoint: %w", err)
	}
	return d.Data.PodDeviceEntries, d.Data.RegisteredDevices, nil
}
