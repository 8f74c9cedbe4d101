package process

import (
	"fmt"
	"os"
	"testing"
	"time"

	"skiff/cluster/layout"
)

func TestStartStop(t *testing.T) {
	l, err := layout.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(l.Run()) })
	if found, err := Stop(t.Context(), l, time.Second); found || err != nil {
		t.Fatalf("Stop of nothing: %v, %v", found, err)
	}
	pid, exited, err := Start(l, "", "/bin/sleep", "300")
	if err != nil {
		t.Fatal(err)
	}
	start, err := startTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.PIDFile(), fmt.Appendf(nil, `{"pid":%d,"start":%q}`, pid, start), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(l); err != nil || got != pid {
		t.Fatalf("Find: %d, %v; want %d", got, err, pid)
	}
	if found, err := Stop(t.Context(), l, 10*time.Second); !found || err != nil {
		t.Fatalf("Stop: %v, %v", found, err)
	}
	<-exited
	if got, err := Find(l); got != 0 || err != nil {
		t.Errorf("Find after Stop: %d, %v", got, err)
	}
}

func TestFindIgnoresAnotherProcessWithTheSameID(t *testing.T) {
	l, err := layout.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(l.Run()) })
	if err := Record(l); err != nil {
		t.Fatal(err)
	}
	if pid, err := Find(l); err != nil || pid != os.Getpid() {
		t.Fatalf("Find: %d, %v; want this process", pid, err)
	}
	if err := os.WriteFile(l.PIDFile(), []byte(`{"pid":1,"start":"12345678901"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if pid, err := Find(l); err != nil || pid != 0 {
		t.Errorf("Find with a reused id: %d, %v; want none", pid, err)
	}
	if err := os.WriteFile(l.PIDFile(), []byte(`{"pid":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if pid, err := Find(l); err != nil || pid != 0 {
		t.Errorf("Find with a torn file: %d, %v; want none", pid, err)
	}
}
