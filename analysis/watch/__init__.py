"""The page of a ladder that still trains, served on this machine alone: what a run folder says so far.

`follow` reads the folder, `first_fits` fits what has finished, `page` writes both as HTML, `serve` answers a
browser.
"""
