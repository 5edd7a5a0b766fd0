"""Models that label words: token classifiers of transformers, with and without a CRF."""
