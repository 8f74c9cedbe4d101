package kubelet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckKernelFlags(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  map[string]string
		want []string
	}{
		{"as wanted", nil, nil},
		{"one differs", map[string]string{"vm/overcommit_memory": "0\n"}, []string{"invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0"}},
		{"two differ", map[string]string{"kernel/panic": "1", "kernel/panic_on_oops": "0"}, []string{
			"invalid kernel flag: kernel/panic, expected value: 10, actual value: 1",
			"invalid kernel flag: kernel/panic_on_oops, expected value: 1, actual value: 0",
		}},
		{"no number", map[string]string{"kernel/panic": "x"}, []string{`parsing "x"`}},
		{"not there", map[string]string{"kernel/keys/root_maxkeys": ""}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sys := t.TempDir()
			for name, text := range map[string]string{
				"vm/overcommit_memory": "1\n", "vm/panic_on_oom": "0\n", "kernel/panic": "10\n", "kernel/panic_on_oops": "1\n",
				"kernel/keys/root_maxkeys": "1000000\n", "kernel/keys/root_maxbytes": "25000000\n",
			} {
				if other, ok := tt.set[name]; ok {
					text = other
				}
				if text == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(filepath.Join(sys, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(sys, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := checkKernelFlags(sys)
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, text := range tt.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("got %v, want also %s", err, text)
				}
			}
		})
	}
}
