package core

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// required demands one of values, which are in the order that messages show.
func required[T ~string](got T, at *field.Path, values ...T) field.ErrorList {
	switch {
	case got == "":
		return field.ErrorList{field.Required(at, "")}
	case slices.Contains(values, got):
		return nil
	}
	return field.ErrorList{field.NotSupported(at, got, values)}
}

// supported is required for what may be left out, but not be empty.
func supported[T ~string](got T, at *field.Path, values ...T) field.ErrorList {
	if slices.Contains(values, got) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, got, values)}
}
