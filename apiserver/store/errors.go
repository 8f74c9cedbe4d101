package store

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/kine"
)

// statusOf turns an error of the store into what the client is told.
func statusOf(err error, gr schema.GroupResource, verb, name string) error {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return err
	case errors.Is(err, kine.ErrKeyExists):
		return apierrors.NewAlreadyExists(gr, name)
	case errors.Is(err, kine.ErrKeyNotFound):
		return apierrors.NewNotFound(gr, name)
	case errors.Is(err, kine.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("request did not complete within requested timeout - "+err.Error(), 0)
	case errors.Is(err, kine.ErrUnavailable), errors.Is(err, kine.ErrStopped), errors.Is(err, errNotFresh), errors.Is(err, errNotReady):
		return apierrors.NewServerTimeout(gr, verb, 2)
	}
	return err
}

// tooLarge is the answer to a resourceVersion that is not yet.
func tooLarge(asked, current int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type:    metav1.CauseTypeResourceVersionTooLarge,
		Message: "Too large resource version",
	}}
	return err
}

func expiredWatch(asked, oldest int64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", asked, oldest))
}

const (
	expiredList     = "The provided resource version is too old to display a consistent list result. Use a newer resource version."
	expiredContinue = "The provided continue parameter is too old to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with " +
		"the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk " +
		"was returned and now may show up in the list."
)

// invalidObject is the conflict that a failed precondition gives.
func invalidObject(gr schema.GroupResource, name, key, text string) error {
	return apierrors.NewConflict(gr, name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: %s", key, text))
}

// ModifiedText is the message of every lost optimistic update.
const ModifiedText = "the object has been modified; please apply your changes to the latest version and try again"

// Modified is the conflict of a lost optimistic update.
func Modified(gr schema.GroupResource, name string) error {
	return apierrors.NewConflict(gr, name, errors.New(ModifiedText))
}
