package framework

// Cast gives the typed versions of an event's objects; an absent one is the zero T.
func Cast[T any](oldObj, newObj any) (oldT, newT T) {
	oldT, _ = oldObj.(T)
	newT, _ = newObj.(T)
	return oldT, newT
}
