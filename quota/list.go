package quota

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// Names lists the names of a list in order.
func Names(l v1.ResourceList) []v1.ResourceName { return slices.Sorted(maps.Keys(l)) }

// Zero is a list of nothing for each name.
func Zero(names []v1.ResourceName) v1.ResourceList {
	out := make(v1.ResourceList, len(names))
	for _, n := range names {
		out[n] = *resource.NewQuantity(0, resource.DecimalSI)
	}
	return out
}

// Add is a+b in a new list.
func Add(a, b v1.ResourceList) v1.ResourceList { return combine(a, b, (*resource.Quantity).Add) }

// Subtract is a-b in a new list.
func Subtract(a, b v1.ResourceList) v1.ResourceList {
	return combine(a, b, (*resource.Quantity).Sub)
}

// SubtractNonNegative is a-b, but never below zero.
func SubtractNonNegative(a, b v1.ResourceList) v1.ResourceList {
	out := Subtract(a, b)
	for n, q := range out {
		if q.Sign() < 0 {
			out[n] = *resource.NewQuantity(0, q.Format)
		}
	}
	return out
}

func combine(a, b v1.ResourceList, f func(*resource.Quantity, resource.Quantity)) v1.ResourceList {
	out := make(v1.ResourceList, len(a)+len(b))
	for n, q := range a {
		out[n] = q.DeepCopy()
	}
	for n, q := range b {
		sum, ok := out[n]
		if !ok {
			sum = *resource.NewQuantity(0, q.Format)
		}
		f(&sum, q)
		out[n] = sum
	}
	return out
}

// Mask keeps the named entries.
func Mask(l v1.ResourceList, names []v1.ResourceName) v1.ResourceList {
	out := v1.ResourceList{}
	for _, n := range names {
		if q, ok := l[n]; ok {
			out[n] = q
		}
	}
	return out
}

// Exceeded lists the names of which a is more than b; names that b does not
// bound are never exceeded.
func Exceeded(a, b v1.ResourceList) []v1.ResourceName {
	var out []v1.ResourceName
	for _, n := range Names(a) {
		if limit, ok := b[n]; ok {
			if q := a[n]; q.Cmp(limit) > 0 {
				out = append(out, n)
			}
		}
	}
	return out
}

// Equal says whether both lists have the same names and amounts.
func Equal(a, b v1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

// Positive lists the names with more than nothing.
func Positive(l v1.ResourceList) []v1.ResourceName {
	var out []v1.ResourceName
	for _, n := range Names(l) {
		if q := l[n]; q.Sign() > 0 {
			out = append(out, n)
		}
	}
	return out
}

// Negative lists the names with less than nothing.
func Negative(l v1.ResourceList) []v1.ResourceName {
	var out []v1.ResourceName
	for _, n := range Names(l) {
		if q := l[n]; q.Sign() < 0 {
			out = append(out, n)
		}
	}
	return out
}
