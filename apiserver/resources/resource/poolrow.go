package resource

import (
	"strconv"

	alpha "k8s.io/api/resource/v1alpha3"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"skiff/apiserver/resources/table"
)

// poolStatusRow sums the pools of a request that was answered.
func poolStatusRow(o *alpha.ResourcePoolStatusRequest) []any {
	row := []any{o.Name, o.Spec.Driver, "-", "-", "-", "-", "-", int64(0), "Pending", "<none>"}
	if o.Status == nil {
		return row
	}
	if n := o.Status.PoolCount; n != nil {
		row[7] = int64(*n)
	}
	if apimeta.IsStatusConditionTrue(o.Status.Conditions, alpha.ResourcePoolStatusRequestConditionFailed) {
		row[8] = "Failed"
	}
	done := apimeta.FindStatusCondition(o.Status.Conditions, alpha.ResourcePoolStatusRequestConditionComplete)
	if done == nil || done.Status != "True" {
		return row
	}
	row[8], row[9] = "Complete", table.Since(done.LastTransitionTime)
	var total, available, allocated, unavailable, failed int64
	for _, p := range o.Status.Pools {
		for sum, n := range map[*int64]*int32{&total: p.TotalDevices, &available: p.AvailableDevices, &allocated: p.AllocatedDevices, &unavailable: p.UnavailableDevices} {
			if n != nil {
				*sum += int64(*n)
			}
		}
		if p.ValidationError != nil {
			failed++
		}
	}
	for i, n := range []int64{total, available, allocated, unavailable, failed} {
		row[2+i] = strconv.FormatInt(n, 10)
	}
	return row
}
