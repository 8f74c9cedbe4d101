package apiserver_test

import (
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func ptr[T any](v T) *T { return &v }

func contains(s, part string) bool { return strings.Contains(s, part) }

func asStatus(err error, into *apierrors.APIStatus) bool { return errors.As(err, into) }
