package job

import (
	"slices"
	"strconv"
	"strings"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
)

// Indexes is a sorted set of completion indexes.
type Indexes []int

// ParseIndexes reads the form "1,3-5"; what it cannot read, and what is not
// below limit, is left out.
func ParseIndexes(s string, limit int) Indexes {
	var out Indexes
	for _, part := range strings.Split(s, ",") {
		lo, hi, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(lo)
		if err != nil {
			continue
		}
		b := a
		if ranged {
			if b, err = strconv.Atoi(hi); err != nil {
				continue
			}
		}
		for i := a; i <= b && i < limit; i++ {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// String is the short form: "1,3-5".
func (x Indexes) String() string {
	var b strings.Builder
	for i := 0; i < len(x); {
		j := i
		for j+1 < len(x) && x[j+1] == x[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(x[i]))
		switch {
		case j == i+1:
			b.WriteString("," + strconv.Itoa(x[j]))
		case j > i:
			b.WriteString("-" + strconv.Itoa(x[j]))
		}
		i = j + 1
	}
	return b.String()
}

// Has says whether i is in the set.
func (x Indexes) Has(i int) bool {
	_, ok := slices.BinarySearch(x, i)
	return ok
}

// With is the set and i.
func (x Indexes) With(i int) Indexes {
	at, ok := slices.BinarySearch(x, i)
	if ok {
		return x
	}
	return slices.Insert(slices.Clone(x), at, i)
}

func indexed(j *batch.Job) bool {
	return j.Spec.CompletionMode != nil && *j.Spec.CompletionMode == batch.IndexedCompletion
}

// indexOf is the pod's completion index, -1 when it has none.
func indexOf(p *v1.Pod) int {
	i, err := strconv.Atoi(p.Annotations[batch.JobCompletionIndexAnnotation])
	if err != nil || i < 0 {
		return -1
	}
	return i
}

func completions(j *batch.Job) int {
	if j.Spec.Completions == nil {
		return 0
	}
	return int(*j.Spec.Completions)
}

// Pending lists the first n indexes that are not done, failed or taken.
func Pending(total, n int, skip ...Indexes) []int {
	var out []int
	for i := 0; i < total && len(out) < n; i++ {
		if !slices.ContainsFunc(skip, func(s Indexes) bool { return s.Has(i) }) {
			out = append(out, i)
		}
	}
	return out
}
