"""One HTML page about a trained detector: how it learnt, what it finds, what goes wrong, and how to do it again.

Nothing is measured or read here but the images that are shown: :mod:`gfocal.commands.report` hands everything over.
"""
