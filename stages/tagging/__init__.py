"""Labels on words, such as the entities of a sentence: tags, sentences from files, words as word pieces, entity scores,
token classifiers, and a linear-chain CRF with the losses that compare such models."""
