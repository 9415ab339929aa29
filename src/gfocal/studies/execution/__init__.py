"""Planning and running the rows of a study."""
