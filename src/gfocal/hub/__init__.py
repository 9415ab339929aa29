"""Weights of one's own on the Hugging Face hub, through huggingface_hub (extra ``hub``)."""
