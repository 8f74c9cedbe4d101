package resource

import (
	"fmt"
	"math"

	v1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// mostValues is how many amounts a policy may list.
const mostValues = 10

// requestPolicy is how much of a capacity one request may take; most is all there is.
// Only devices that are given out more than once have it.
func requestPolicy(p *v1.CapacityRequestPolicy, most resource.Quantity, shared bool, at *field.Path) field.ErrorList {
	switch {
	case p == nil:
		return nil
	case !shared:
		return field.ErrorList{field.Forbidden(at, "allowMultipleAllocations must be true")}
	case len(p.ValidValues) > 0 && p.ValidRange != nil:
		return field.ErrorList{field.Forbidden(at, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)}
	case len(p.ValidValues) > 0:
		if p.Default == nil {
			return field.ErrorList{field.Required(at.Child("default"), "required when validValues is defined")}
		}
		return requestValues(p.ValidValues, *p.Default, most, at.Child("validValues"))
	case p.ValidRange != nil:
		if p.Default == nil {
			return field.ErrorList{field.Required(at.Child("default"), "required when validRange is defined")}
		}
		return requestRange(p.ValidRange, *p.Default, most, at.Child("validRange"))
	}
	return nil
}

func requestValues(list []resource.Quantity, usual, most resource.Quantity, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := 1; i < len(list); i++ {
		if list[i-1].Cmp(list[i]) > 0 {
			errs = append(errs, field.Invalid(at.Index(i), list[i].String(), "values must be sorted in ascending order"))
		}
	}
	if n := len(list); n > mostValues {
		errs = append(errs, field.TooMany(at, n, mostValues))
		list = nil
	}
	found := false
	seen := map[int64]bool{}
	for i, q := range list {
		if q.Cmp(most) > 0 {
			errs = append(errs, field.Invalid(at.Index(i), q.String(), fmt.Sprintf("option is larger than capacity value: %s", most.String())))
		}
		if seen[q.Value()] {
			errs = append(errs, field.Duplicate(at.Index(i), fmt.Sprint(q.Value())))
		}
		seen[q.Value()] = true
		found = found || q.Cmp(usual) == 0
	}
	if !found {
		errs = append(errs, field.Invalid(at, usual.String(), "default value is not valid according to the requestPolicy"))
	}
	return errs
}

func requestRange(r *v1.CapacityRequestPolicyRange, usual, most resource.Quantity, at *field.Path) field.ErrorList {
	if r.Min == nil {
		return field.ErrorList{field.Required(at.Child("min"), "required when validRange is defined")}
	}
	var errs field.ErrorList
	refuse := func(name string, q resource.Quantity, text string, bound resource.Quantity) {
		errs = append(errs, field.Invalid(at.Child(name), q.String(), fmt.Sprintf(text, bound.String())))
	}
	if r.Min.Cmp(most) > 0 {
		refuse("min", *r.Min, "min is larger than capacity value: %s", most)
	}
	if usual.Cmp(*r.Min) < 0 {
		refuse("default", usual, "default is less than min: %s", *r.Min)
	}
	if r.Max != nil {
		if r.Min.Cmp(*r.Max) > 0 {
			refuse("max", *r.Min, "min is larger than max: %s", *r.Max)
		}
		if r.Max.Cmp(most) > 0 {
			refuse("max", *r.Max, "max is larger than capacity value: %s", most)
		}
		if usual.Cmp(*r.Max) > 0 {
			refuse("default", usual, "default is more than max: %s", *r.Max)
		}
	}
	if r.Step == nil {
		return errs
	}
	return append(errs, requestStep(r, usual, most, at)...)
}

// requestStep holds the bounds of a range to whole steps. Whole numbers are all that
// is counted in: fractions are of a feature that is off.
func requestStep(r *v1.CapacityRequestPolicyRange, usual, most resource.Quantity, at *field.Path) field.ErrorList {
	step := at.Child("step")
	if r.Step.Sign() <= 0 {
		return field.ErrorList{field.Invalid(step, r.Step.String(), "must be greater than zero")}
	}
	var errs field.ErrorList
	next := r.Min.DeepCopy()
	next.Add(*r.Step)
	if next.Cmp(most) > 0 {
		errs = append(errs, field.Invalid(step, r.Step.String(), fmt.Sprintf("one step %s is larger than capacity value: %s", next.String(), most.String())))
	}
	unsafe := false
	for _, f := range []struct {
		name string
		q    *resource.Quantity
	}{{"default", &usual}, {"min", r.Min}, {"max", r.Max}, {"step", r.Step}} {
		switch {
		case f.q == nil:
			continue
		case f.q.Sign() < 0:
			errs = append(errs, field.Invalid(at.Child(f.name), f.q.String(), apivalidation.IsNegativeErrorMsg))
		case f.q.CmpInt64(math.MaxInt64) > 0:
			errs = append(errs, field.Invalid(at.Child(f.name), f.q.String(), "must not be larger than 9223372036854775807"))
		default:
			continue
		}
		unsafe = true
	}
	if unsafe {
		return errs
	}
	for _, q := range []*resource.Quantity{&usual, r.Max} {
		if q != nil && (q.Value()-r.Min.Value())%r.Step.Value() != 0 {
			errs = append(errs, field.Invalid(step, q.String(), fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String())))
		}
	}
	return errs
}
