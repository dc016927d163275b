"""Curves sent on to the tracker that a person has open, from the run folders, by a process of its own."""
