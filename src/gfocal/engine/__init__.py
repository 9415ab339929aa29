"""Training, evaluating and predicting: what turns a recipe and pictures into results."""
