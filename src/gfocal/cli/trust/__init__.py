"""The verbs about what a detector knows of itself: their options."""
