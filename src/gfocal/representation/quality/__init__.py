"""How a box's quality enters training and score; a form is one file."""
