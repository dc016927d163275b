"""Tables of runs: read from a file or a folder of runs, renamed, filtered, checked."""
