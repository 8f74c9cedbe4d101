package webhook

import utiljson "k8s.io/apimachinery/pkg/util/json"

// unmarshal reads JSON; whole numbers in untyped places become int64, as everywhere in the API.
func unmarshal(data []byte, into any) error { return utiljson.Unmarshal(data, into) }
