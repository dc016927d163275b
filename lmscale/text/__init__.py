"""Text to tokens: documents, the split, vocabularies, token classes, n-grams. Knows no task."""
