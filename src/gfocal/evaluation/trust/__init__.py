"""Whether intervals hold what they promise, and scores are chances: samples of a data set, and tables of them."""
