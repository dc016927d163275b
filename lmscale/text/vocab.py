"""Token numbers. Bytes stand for themselves; a few specials follow. A BPE text corpus appends its tokens."""

PAD = 256  # after the last example of a task row; its prediction never counts
START = 257  # before the first byte of a task row: the row is a fresh page
MASK = 258  # in place of a token that the masked objective hides
VOCAB_SIZE = 260  # one spare, so that the unembedding's width is a multiple of four
END_OF_FILE = 0  # a NUL byte after every file of text: a corpus stays plain bytes
