"""How a box is represented; a form is one file."""
