package checkpoint

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/kubelet/statefile/checksum"
)

// real is a file that an upstream kubelet wrote.
const real = `{"Data":{"PodDeviceEntries":[{"PodUID":"bf52b2cd-b611-4e79-86b1-280b283185c3","ContainerName":"check","ResourceName":"nvidia.com/gpu","DeviceIDs":{"-1":["tegra"]},"AllocResp":"Ch8KFk5WSURJQV9WSVNJQkxFX0RFVklDRVMSBXRlZ3Jh"}],"RegisteredDevices":{"nvidia.com/gpu":["tegra"]}},"Checksum":3660592824}`

func TestUpstreamsFile(t *testing.T) {
	entries, registered, err := Decode([]byte(real))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].ContainerName != "check" || len(registered["nvidia.com/gpu"]) != 1 {
		t.Errorf("got %+v, %v", entries, registered)
	}
	data, err := Encode(entries, registered)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(real, string(data)); diff != "" {
		t.Errorf("written again (-want +got):\n%s", diff)
	}
}

func TestDamage(t *testing.T) {
	_, _, err := Decode([]byte(strings.Replace(real, `["tegra"]}`, `["other"]}`, 1)))
	if !errors.Is(err, checksum.ErrCorrupt) {
		t.Errorf("a changed device: got %v, want %v", err, checksum.ErrCorrupt)
	}
	if _, _, err := Decode([]byte(real[:100])); err == nil {
		t.Error("half a file was accepted")
	}
}
