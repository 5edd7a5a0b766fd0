"""Labels on words, such as the entities of a sentence: tags, sentences from files, words as word pieces, entity scores,
a linear-chain CRF, and losses a word. Models that label words are in ``stages.models.tagging``."""
