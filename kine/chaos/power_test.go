package chaos

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"skiff/kine/kinetest"
)

// The machine loses its power again and again, and its disk forgets what was not
// synced: nothing that was acknowledged is lost, and the database opens.
//
// Covers: store.power-loss
func TestPowerLoss(t *testing.T) {
	dir := t.TempDir()
	d := &disk{files: map[string]*diskFile{}}
	unmount := d.mount(t, dir)
	p, s := start(t, dir)
	t.Cleanup(func() { p.kill(); unmount() })
	losses := 0
	kinetest.Chaos{Store: s, Time: 5 * time.Second, Disturb: func(ctx context.Context) {
		pause(ctx, time.Duration(300+rand.IntN(500))*time.Millisecond)
		p.kill()
		unmount()
		d.losePower(rand.IntN(2) == 0)
		unmount = d.mount(t, dir)
		p.up("")
		losses++
	}}.Run(t)
	if losses == 0 {
		t.Error("the power was never lost")
	}
}
