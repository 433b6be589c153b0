"""Candidates through training and the pipeline, side by side: which one to take."""
